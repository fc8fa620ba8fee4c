"""The stage `evaluate`: attack every way of a model, ask every way, write what came out.

Leaves `evaluation.json` (all figures, with where they come from), `evaluation.md` (the same to
read, beside the paper's), its plots and `answers.npz` (every logit). Until all batches are there,
each lies in a scratch folder beside them, so that a run that was stopped goes on and several
processes can share one evaluation. What the figures are is `figures`' business, how they read is
`evaluation_table`'s. The attacks are the plain ones: they do not know of the detector.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from training import answers, evaluation_document, evaluation_plots, evaluation_table, predict
from training.answers import INPUTS, Answered, attacked_name, natural_name
from training.arrays import Arrays, joined
from training.attacks.setting import AttackSetting
from training.config import ConfigError, Way
from training.data import Images, to_float
from training.evaluation_document import STEM
from training.files import OutputError, write_report
from training.plots import style
from training.scratch import Part, Scratch
from training.shard import WHOLE, Shard
from training.subject import Subject

TABLE_FILE, ANSWERS_FILE = f"{STEM}.md", "answers.npz"
SCRATCH_FOLDER = f"{STEM}.partial"

_PARTS_FORMAT = 1  # raise it where the answers of one setting change, so that none are mixed
_COST: dict[Way, int] = {"standard": 2, "robust": 1, "nonrobust": 1}  # encoders a step runs

Advance = Callable[[str, int], None]  # what is being done, and how much work just got done


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The images from `position` on, natural or under one attack on one way."""

    position: int
    attack: AttackSetting | None = None
    way: Way = "standard"  # of the attack

    @property
    def name(self) -> str:
        """Where its answers lie in the scratch folder."""
        if self.attack is None:
            return f"natural/{self.position:06d}"
        folder = self.attack.name.replace(":", "_").replace("/", "-")
        return f"{folder}/{self.way}/{self.position:06d}"

    @property
    def text(self) -> str:
        """What people call it."""
        if self.attack is None:
            return "natural images"
        return f"{self.attack.name} on the {self.way} way"

    @property
    def cost(self) -> int:
        """Passes of an encoder over an image, about."""
        return 1 if self.attack is None else self.attack.steps * _COST[self.way]


@dataclass(frozen=True, kw_only=True)
class Collected:
    """The answers of all batches, who made each of these, and how long they took together."""

    answered: Answered
    makers: Sequence[evaluation_document.Made]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Which attacks, and what they are drawn with. `dataset` is what figures are quoted with.

    The same seed and batch size give the same figures on the same machine, in one go or many.
    """

    attacks: tuple[AttackSetting, ...]
    dataset: str | None = None  # None: from the data source
    seed: int = 0
    batch_size: int = 250

    def __call__(
        self, subject: Subject, scratch: Scratch, console: Console, share: Shard = WHOLE
    ) -> Collected | None:
        """Ask what the share lacks; all answers, or None and a line while others' are missing.

        Raises:
            OutputError: the scratch folder cannot be written to or belongs to something else.
            CheckpointError: the model's answers are not finite.
            ConfigError: more shares than batches.
        """
        scratch.check()
        batches = self.batches(subject)
        if share.count > max(1, len(batches)):
            raise ConfigError(f"{share.count} shares of {len(batches)} batches: some have none")
        own = share.of(batches)
        todo = [batch for batch in own if scratch.get(batch.name) is None]
        if len(todo) < len(own):
            _say(console, f"{scratch.folder}: {len(own) - len(todo)} of {len(own)} batches there")
        made = evaluation_document.maker(subject.device)
        work = sum(batch.cost for batch in todo)
        with predict.examined(subject.model), _progress(work, console) as advance:
            for batch in todo:
                advance(batch.text, 0)
                began = time.monotonic()
                arrays = self._ask(subject, batch)
                notes = {"made_by": made, "seconds": time.monotonic() - began}
                scratch.put(batch.name, Part(arrays=arrays, notes=notes))
                advance(batch.text, batch.cost)
        found = [scratch.get(batch.name) for batch in batches]
        if own and not scratch.begun:
            _say(console, f"{scratch.folder}: gone; another process has put the parts together")
            return None
        if None in found:
            _say(console, _missing(scratch, batches, found, share))
            return None
        return _collected(subject, [part for part in found if part is not None])

    def scratch(self, subject: Subject, folder: Path) -> Scratch:
        """Where finished batches are kept beside the result, with all that they depend on."""
        return Scratch(
            folder=folder / SCRATCH_FOLDER,
            belongs={
                "format": _PARTS_FORMAT,
                "weights_sha256": subject.header.weights_sha256,
                "method": subject.header.config.method,
                "data_sha256": subject.images.digest(),
                "split": subject.split,
                "index": subject.drawn,
                "attacks": [attack.name for attack in self.attacks],
                "seed": self.seed,
                "batch_size": self.batch_size,
                "torch": torch.__version__,
                "device": subject.device.type,  # each type draws its own random starts
            },
        )

    def batches(self, subject: Subject) -> list[Batch]:
        """All of them, in the order in which they are asked."""
        positions = range(0, len(subject.images), self.batch_size)
        return [
            *(Batch(position=position) for position in positions),
            *(
                Batch(position=position, attack=attack, way=way)
                for attack in self.attacks
                for way in subject.ways
                for position in positions
            ),
        ]

    def document(self, subject: Subject, collected: Collected) -> dict[str, Any]:
        """Everything `evaluation.json` holds, as `evaluation_document.build` has it."""
        return evaluation_document.build(
            subject,
            collected.answered,
            collected.makers,
            attacks=self.attacks,
            dataset=self.dataset,
            seed=self.seed,
            batch_size=self.batch_size,
            seconds=collected.seconds,
        )

    def _ask(self, subject: Subject, batch: Batch) -> dict[str, NDArray[np.float32]]:
        """What all ways say of one batch. No attacked image outlives it, so memory is bounded."""
        model, ways = subject.model, subject.ways
        images = predict.batch_at(subject.images, batch.position, self.batch_size, subject.device)
        if batch.attack is None:
            said = predict.answer(model, to_float(images.pixels), ways)
            return {natural_name(way): logits for way, logits in said.items()}
        return _attacked(subject, batch.attack, batch.way, images, self.seed, batch.position)


def _attacked(
    subject: Subject, attack: AttackSetting, way: Way, images: Images, seed: int, position: int
) -> dict[str, NDArray[np.float32]]:
    """The answers to one attacked batch, rounded to 8 bits and as the attack left it."""
    model, pgd = subject.model, attack.pgd()
    exact = predict.attacked(model, way, pgd, images, seed=seed, position=position)
    rounded = to_float(pgd.threat.rounded(images.pixels, exact))
    return {
        attacked_name(attack.name, way, inputs, answering): logits
        for inputs, adversarial in zip(INPUTS, (rounded, exact), strict=True)
        for answering, logits in predict.answer(model, adversarial, subject.ways).items()
    }


def write(document: dict[str, Any], answered: Answered, folder: Path) -> Path:
    """Write all files into `folder`, replacing an earlier evaluation; returns the JSON's path.

    The JSON comes last, so that a new one never stands beside older answers or plots.

    Raises:
        OutputError: the folder cannot be written to.
    """
    answers.save(folder / ANSWERS_FILE, answered)
    drawn = evaluation_plots.draw(answered, document["attacks"])
    links = {}
    for name, caption in evaluation_plots.CAPTIONS.items():
        path = folder / f"{STEM}-{name}.svg"
        if name in drawn:
            style.save(drawn[name], path)
            links[caption] = path.name
        else:
            _remove(path)
    return write_report(folder, STEM, document, evaluation_table.render(document, links))


def _collected(subject: Subject, parts: Sequence[Part]) -> Collected:
    """All batches, in their order, as one."""
    arrays: dict[str, NDArray[Any]] = {
        "label": subject.images.label.numpy(),
        "index": np.array(subject.index),
    }
    groups: dict[tuple[str, ...], list[Arrays]] = {}
    for part in parts:
        groups.setdefault(tuple(part.arrays), []).append(part.arrays)
    for consecutive in groups.values():
        arrays |= joined(consecutive)
    return Collected(
        answered=Answered(arrays=arrays),
        makers=[part.notes["made_by"] for part in parts],
        seconds=sum(part.notes["seconds"] for part in parts),
    )


def _missing(
    scratch: Scratch, batches: Sequence[Batch], found: Sequence[Part | None], share: Shard
) -> str:
    """One line on what is not there, by share."""
    absent = {batch for batch, part in zip(batches, found, strict=True) if part is None}
    lacking = {str(one): len(absent & set(one.of(batches))) for one in share.all()}
    return (
        f"{scratch.folder}: {len(batches) - len(absent)} of {len(batches)} batches there, nothing "
        "written yet; missing: "
        + ", ".join(f"{count} of --shard {name}" for name, count in lacking.items() if count)
    )


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot remove {path}: {error.strerror}") from error


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)


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
