"""The stage `quantise`: an int8 network for the CPU, measured beside the float32 one it came from.

Validation images give the ranges of its activations, calibration images its thresholds, test images
the figures; both networks are asked in ONNX Runtime, as they are served. Attacks are made against
the float32 network, as an int8 one has no gradient. Leaves `int8.onnx`, `int8.json`, `int8.md`
and, where the score has one, the detector head; `export --int8` ships it, or the figures forbid it.
"""

import dataclasses
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console

from service import conformal
from service.scores import Features, Logits
from training import attackers, checkpoint, graph, int8, int8_figures, int8_table, predict, runtime
from training.attacks import setting
from training.calibration_document import HEAD_FILE, Basis
from training.checkpoint import AVERAGED, Checkpoint, current_commit
from training.config import ConfigError
from training.data import Images, SplitName, to_float
from training.decided import Decided
from training.files import write_bytes, write_report
from training.graph import ThreeWayGraph
from training.int8_document import NETWORK_FILE, STEM
from training.int8_figures import FLOAT32, INT8
from training.objective import TRAINED_WAYS
from training.observed import Observed
from training.predict import WAYS
from training.specimens import Specimens, sample
from training.subject import Subject

SPLITS: tuple[SplitName, ...] = ("validation", "calibration", "test")
BATCHES = (1, 32)  # that are timed

_FORMAT = 1
_NOTES = (
    "The network computes its convolutions in 8-bit integers, and it was measured so.",
    "The attack is PGD with one random start on the standard way, against the true label; the last "
    "iterate counts. It was made against the float32 network and does not know of the detector, "
    "and an attacker who does can do better.",
    "It is successful where the standard way of the int8 network is wrong on the attacked image.",
)
_DECISION_NOTES = (
    "Thresholds hold for natural images like these and for no others.",
    "They are those of the int8 network; temperatures and mixture are the float32 network's.",
)

Subjects = Mapping[SplitName, Subject]  # one model's splits
Pair = Mapping[str, Path]  # the files of both networks, FLOAT32 first


@dataclass(frozen=True, kw_only=True)
class Quantised:
    """`document` is `int8.json` as JSON types, `network` and `head` are whole files."""

    document: dict[str, Any]
    network: bytes
    head: bytes | None


@dataclass(frozen=True, kw_only=True)
class Quantise:
    """`ranges` validation images give ranges, `count` test images are attacked; drawn by `seed`."""

    count: int = 2000
    ranges: int = 1000
    dataset: str | None = None  # None: from the data source
    seed: int = 0
    batch_size: int = 250

    def __call__(
        self, source: Checkpoint, subjects: Subjects, basis: Basis | None, console: Console
    ) -> Quantised:
        """Make the network and measure both; `basis` is the calibration of the float32 one.

        Raises:
            ConfigError: the model's method does not train all three ways, or calibration images
                give no thresholds.
        """
        if len(TRAINED_WAYS[source.header.config.method]) < len(WAYS):
            raise ConfigError("only a model of three ways has a detection to keep")
        began = time.monotonic()
        with TemporaryDirectory() as place:
            pair = {name: Path(place) / f"{name}.onnx" for name in (FLOAT32, INT8)}
            ranges = sample(subjects["validation"], self.ranges, self.seed).images
            _write_networks(pair, source, ranges)
            document = self._identity(source, subjects["test"], ranges)
            document |= self._measured(pair, subjects, basis, console)
            network = pair[INT8].read_bytes()
        document |= {
            "network_sha256": hashlib.sha256(network).hexdigest(),
            "detector_sha256": basis and basis.head and hashlib.sha256(basis.head).hexdigest(),
            "onnxruntime": runtime.VERSION,
            "commit": current_commit(),
            "created": datetime.now(UTC).replace(microsecond=0).isoformat(),
            "seconds": round(time.monotonic() - began, 1),
        }
        return Quantised(document=document, network=network, head=basis.head if basis else None)

    def _identity(self, source: Checkpoint, test: Subject, ranges: Images) -> dict[str, Any]:
        own = source.header.config.attack
        return {
            "format": _FORMAT,
            "dataset": self.dataset or test.dataset,
            "split": test.split,
            "n_images": len(test.images),
            "weights_sha256": source.header.weights_sha256,
            "model": source.header.config.name,
            "norm": own.norm,
            "eps": own.eps,
            "settings": dataclasses.asdict(self) | {"operators": list(int8.OPERATORS)},
            "ranges": _pictures(ranges),
            "natural": _pictures(test.images),
        }

    def _measured(
        self, pair: Pair, subjects: Subjects, basis: Basis | None, console: Console
    ) -> dict[str, Any]:
        test = subjects["test"]
        few = sample(test, self.count, self.seed)
        attack = setting.usual(test.header.config.attack)
        pgd = attack.pgd()
        console.print(f"{attack.name} on {len(few.images)} images", highlight=False, soft_wrap=True)
        specimens = Specimens(
            threat=attackers.threat_of(test.header.config.attack),
            seed=self.seed,
            batch_size=self.batch_size,
        )
        with predict.examined(test.model):
            adversarial = specimens.adversarial(
                few,
                lambda model, image, label: pgd(lambda x: model.way(x, "standard"), image, label),
            )
        natural, attacked = (
            {name: self._ask(path, images) for name, path in pair.items()}
            for images in (test.images, adversarial)
        )
        figures = {name: int8_figures.figures(natural[name], attacked[name]) for name in pair}
        score, decision = None, None
        if basis is not None:
            calibration = subjects["calibration"].images
            seen = self._ask(pair[INT8], calibration)
            refitted = _refitted(basis, seen)
            decision = _decision(basis, refitted, seen, calibration)
            score = {
                "name": basis.decided.score,
                "fpr": basis.fpr,
                **{
                    name: int8_figures.scored(natural[name], attacked[name], decided)
                    for name, decided in ((FLOAT32, basis.decided), (INT8, refitted))
                },
                "kept": refitted.kept(natural[INT8], len(seen)),
            }
        image = to_float(few.images.pixels[: max(BATCHES)]).numpy()
        return {
            "notes": [*_NOTES, f"{len(adversarial)} of the images were attacked, drawn by seed."],
            "attacked": _pictures(few.images),
            "agreement": {
                "natural": int8_figures.agreement(natural[FLOAT32], natural[INT8]),
                "attacked": int8_figures.agreement(attacked[FLOAT32], attacked[INT8]),
            },
            "figures": figures,
            "results": [
                {
                    "attack": {"name": attack.name, **vars(attack)},
                    "inputs": "rounded",
                    "metrics": {name: one["value"] for name, one in figures[INT8].items()},
                }
            ],
            "score": score,
            "decision": decision,
            "speed": [
                {"batch": size, **runtime.images_per_second(pair, image[:size])} for size in BATCHES
            ],
            "size": {name: path.stat().st_size for name, path in pair.items()},
        }

    def _ask(self, path: Path, images: Images) -> Observed:
        answers = runtime.run(path, to_float(images.pixels).numpy(), self.batch_size)
        if not all(np.isfinite(part).all() for part in answers.values()):
            raise ConfigError(f"the {path.stem} network answers with numbers that are not finite")
        standard, robust, nonrobust, z_robust, z_nonrobust = (
            answers[name] for name in graph.OUTPUTS
        )
        return Observed(
            label=images.label.numpy().astype(np.intp),
            logits=Logits(standard, robust, nonrobust),
            features=Features(z_robust, z_nonrobust),
        )


def write(quantised: Quantised, folder: Path) -> Path:
    """Write all files into `folder`, replacing earlier ones; returns the JSON's path.

    The JSON comes last and names the hashes of the network and the head.

    Raises:
        OutputError: the folder cannot be written to.
    """
    write_bytes(folder / NETWORK_FILE, quantised.network)
    if quantised.head is not None:
        write_bytes(folder / HEAD_FILE, quantised.head)
    document = quantised.document
    return write_report(folder, STEM, document, int8_table.render(document))


def _write_networks(pair: Pair, source: Checkpoint, ranges: Images) -> None:
    image = to_float(ranges.pixels)
    graph.write(
        ThreeWayGraph(checkpoint.model_of(source)),
        source.averaged,
        image[:2],
        pair[FLOAT32],
        outputs=graph.OUTPUTS,
        prefix=AVERAGED,
    )
    int8.quantise(pair[FLOAT32], pair[INT8], image.numpy())


def _refitted(basis: Basis, seen: Observed) -> Decided:
    classes = seen.logits.standard.shape[1] if basis.per_class else None
    try:
        found = conformal.fit(basis.decided.scores(seen), seen.named, classes=classes)
    except conformal.Unfit as error:
        raise ConfigError(f"the calibration images do not do: {error}") from error
    if basis.fpr in found.left_out:
        raise ConfigError(f"the calibration images do not do: {found.left_out[basis.fpr]}")
    return replace(basis.decided, thresholds=found.fitted)


def _decision(
    basis: Basis, refitted: Decided, seen: Observed, calibration: Images
) -> dict[str, Any]:
    """The manifest's `decision`."""
    return refitted.manifest(basis.policy, basis.fpr) | {
        "calibration": {
            "dataset": basis.dataset,
            "n_images": len(seen),
            "sha256": calibration.digest(),
            "created": datetime.now(UTC).replace(microsecond=0).isoformat(),
            "histogram": refitted.histogram(seen),
            "notes": list(_DECISION_NOTES),
        }
    }


def _pictures(images: Images) -> dict[str, Any]:
    return {"n_images": len(images), "sha256": images.digest()}
