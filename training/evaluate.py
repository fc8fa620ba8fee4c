"""The stage `evaluate`: attack every way of a model, ask every way, write what came out.

Leaves `evaluation.json` (all figures, with where they come from) and `evaluation.md` (the same to
read, beside the paper's). What the figures are is `figures`' business, how they read is
`evaluation_table`'s. The attacks are the plain ones: they do not know of the detector.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from training import evaluation_table, predict
from training.attacks.setting import AttackSetting
from training.checkpoint import current_commit
from training.config import Way
from training.data import to_float
from training.figures import Figures, measure
from training.files import write_report
from training.predict import Answers
from training.subject import Subject

_STEM = "evaluation"
JSON_FILE, TABLE_FILE = f"{_STEM}.json", f"{_STEM}.md"

_FORMAT = 1
_COST: dict[Way, int] = {"standard": 2, "robust": 1, "nonrobust": 1}  # encoders a step runs
_NOTES = (
    "Attacks are PGD with one random start, against the true label; the last iterate counts. They "
    "do not know of the detector, and an attacker who does can do better.",
    "An attack on the standard way is successful where that way is wrong on the attacked image.",
    "Rounding to 8 bits keeps an attacked image within its eps.",
    "Thresholds of the score, and the detection at them, are read off the very natural images that "
    "are measured: what the score could do, not a rate that is promised.",
)

Advance = Callable[[str, int], None]  # what is being done, and how much work just got done


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Which attacks, and what they are drawn with. `dataset` is what figures are quoted with.

    The same seed and batch size give the same figures on the same machine.
    """

    attacks: tuple[AttackSetting, ...]
    dataset: str | None = None  # None: from the data source
    seed: int = 0
    batch_size: int = 250

    def __call__(self, subject: Subject, console: Console) -> dict[str, Any]:
        """Everything `evaluation.json` holds, as JSON types; shares are in [0, 1].

        `results` has two entries an attack: images rounded to 8 bits first, as they travel, then
        as the attack left them. Each maps every name of `figures.NAMES` to a number, or to null
        with the reason under `absent`.

        Raises:
            CheckpointError: the model's answers are not finite.
        """
        began = time.monotonic()
        with predict.examined(subject.model), _progress(self._work(subject), console) as advance:
            results = self._results(subject, advance)
        return {
            "format": _FORMAT,
            **_identity(subject, self.dataset),
            "notes": [*_NOTES, *_unfinished(subject)],
            "seed": self.seed,
            "batch_size": self.batch_size,
            "commit": current_commit(),
            "torch": torch.__version__,
            "device": _device_name(subject.device),
            "created": datetime.now(UTC).replace(microsecond=0).isoformat(),
            "seconds": round(time.monotonic() - began, 1),
            "results": results,
        }

    def _results(self, subject: Subject, advance: Advance) -> list[dict[str, Any]]:
        label = subject.images.label.numpy()
        natural = predict.natural(
            subject.model, subject.images, subject.ways, self.batch_size, subject.device
        )
        results = []
        for attack in self.attacks:
            rounded: dict[Way, Answers] = {}
            exact: dict[Way, Answers] = {}
            for way in subject.ways:
                rounded[way], exact[way] = self._attack(subject, way, attack, advance)
            for inputs, answers in (("rounded", rounded), ("float", exact)):
                found = measure(label, natural, answers, method=subject.header.config.method)
                results.append(_result(attack, inputs, found))
        return results

    def _attack(
        self, subject: Subject, way: Way, attack: AttackSetting, advance: Advance
    ) -> tuple[Answers, Answers]:
        """What all ways say of the images attacked by one way, rounded to 8 bits and as they are.

        No attacked image outlives its batch, so that large images need no more memory.
        """
        model, ways = subject.model, subject.ways
        threat = attack.pgd().threat
        rounded, exact = [], []
        advance(f"{attack.name} on the {way} way", 0)
        for position, batch in predict.batches(subject.images, self.batch_size, subject.device):
            adversarial = predict.attacked(
                model, way, attack.pgd(), batch, seed=self.seed, position=position
            )
            rounded.append(
                predict.answer(model, to_float(threat.rounded(batch.pixels, adversarial)), ways)
            )
            exact.append(predict.answer(model, adversarial, ways))
            advance(f"{attack.name} on the {way} way", len(batch) * attack.steps * _COST[way])
        return predict.joined(rounded), predict.joined(exact)

    def _work(self, subject: Subject) -> int:
        per_image = sum(attack.steps for attack in self.attacks)
        return len(subject.images) * per_image * sum(_COST[way] for way in subject.ways)


def write(document: dict[str, Any], folder: Path) -> Path:
    """Write both files into `folder`, replacing an earlier evaluation; returns the JSON's path.

    Raises:
        OutputError: the folder cannot be written to.
    """
    return write_report(folder, _STEM, document, evaluation_table.render(document))


def _identity(subject: Subject, dataset: str | None) -> dict[str, Any]:
    """Which weights were examined on which images."""
    header, config = subject.header, subject.header.config
    everything = len(subject.index) == subject.available
    return {
        "dataset": dataset or subject.dataset,
        "split": subject.split,
        "n_images": len(subject.images),
        "weights_sha256": header.weights_sha256,
        "model": {
            "name": config.name,
            "method": config.method,
            "loss": dataclasses.asdict(config.loss),
            "backbone": config.model.backbone,
            "norm": config.attack.norm,
            "eps": config.attack.eps,
            "seed": config.seed,
            "step": header.step,
            "steps": header.steps_per_epoch * config.optimizer.epochs,
            "commit": header.commit,
        },
        "data": {
            "source": subject.source,
            "split_seed": config.data.split_seed,
            "available": subject.available,
            "sha256": subject.images.digest(),
            "index": None if everything else list(subject.index),  # null: all of the split
        },
    }


def _unfinished(subject: Subject) -> list[str]:
    header = subject.header
    if header.config.keep == "best":
        return ["Of all epochs the one that withstood most of an attack on validation images."]
    if header.finished:
        return []
    return ["The model was evaluated before its training had finished."]


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def _result(attack: AttackSetting, inputs: str, found: Figures) -> dict[str, Any]:
    """One attack and one kind of input, every figure under its flat name."""
    return {
        "attack": {"name": attack.name, **vars(attack), "random_start": True},
        "inputs": inputs,
        "metrics": {name: figure.value for name, figure in found.items()},
        "intervals": {
            name: list(figure.interval) for name, figure in found.items() if figure.interval
        },
        "counts": {
            name: figure.count for name, figure in found.items() if figure.count is not None
        },
        "absent": {name: figure.absent for name, figure in found.items() if figure.absent},
    }


@contextlib.contextmanager
def _progress(total: int, console: Console) -> Iterator[Advance]:
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("natural images", total=total)
        yield lambda text, amount: bar.update(task, description=text, advance=amount)
