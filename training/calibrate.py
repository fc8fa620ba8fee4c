"""The stage `calibrate`: temperatures, a score, thresholds and a mixture, then what they are worth.

Training images teach the detector head, validation images choose the score, calibration images set
every number that goes into the manifest; test images are looked at last and change nothing. Leaves
`calibration.json`, `calibration.md`, its plots and, where a head was trained, `detector.npz`. How
each of them is found is its own module's business.
"""

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
from matplotlib.figure import Figure
from rich.console import Console

from service import conformal
from service.conformal import Thresholds
from service.scores import Head, ScoreName, Scores, Temperature
from training import (
    attackers,
    calibrated,
    calibration_table,
    detector,
    predict,
    score_choice,
    temperature,
)
from training.attacks import setting
from training.calibrated import Sides
from training.checkpoint import current_commit
from training.config import ConfigError
from training.data import SplitName
from training.decided import Decided
from training.files import OutputError, write_report
from training.mixture_fit import Search
from training.observed import Observed
from training.plots import promise, reliability, style
from training.predict import WAYS
from training.score_choice import CLEAN, MIXED
from training.specimens import MILD, Attack, Specimens, sample
from training.subject import Subject

_STEM = "calibration"
JSON_FILE, TABLE_FILE, HEAD_FILE = f"{_STEM}.json", f"{_STEM}.md", "detector.npz"

SPLITS: tuple[SplitName, ...] = ("train", "validation", "calibration", "test")

ROUNDS = 2  # of the head against itself: a third found nothing more on MNIST

_FORMAT = 1
_NOTES = (
    "Thresholds hold for natural images like these and for no others.",
    "The three temperatures were fitted on the same images.",
)

Subjects = Mapping[SplitName, Subject]  # one model's splits
Attacks = Mapping[str, Attack]


class CalibrationError(ConfigError):
    """The images cannot give what was asked for; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """`document` is `calibration.json` as JSON types, `plots` are by the last part of a name."""

    document: dict[str, Any]
    head: Head | None
    plots: Mapping[str, Figure]


@dataclass(frozen=True, kw_only=True)
class Calibrate:
    """`count` images of each split are attacked, and as many teach the head; the others are whole.

    `steps` are those of the attacks that know the detector. The head is attacked and trained again
    `rounds` times; None trains none. `policy` and `fpr` become the exported model's defaults, and
    so does `score` where it is given.
    """

    count: int = 500
    steps: int = 30
    rounds: int | None = ROUNDS
    per_class: bool = False
    score: ScoreName | None = None  # None: the best of the comparison
    policy: Literal["eq12", "score", "strict"] = "eq12"
    fpr: str = "0.01"
    dataset: str | None = None  # None: from the data source
    seed: int = 0
    batch_size: int = 250
    fit: detector.Fit = field(default_factory=detector.Fit)
    search: Search = field(default_factory=Search)

    def __post_init__(self) -> None:
        if self.fpr not in conformal.RATES:
            raise ConfigError(f"{self.fpr!r} is not a rate; known: {', '.join(conformal.RATES)}")
        if self.score == "head" and self.rounds is None:
            raise ConfigError("the score `head` needs a head")

    def __call__(self, subjects: Subjects, console: Console) -> Calibration:
        """Everything, from one model's SPLITS.

        Raises:
            ConfigError: the model's method does not train all three ways.
            CalibrationError: too few calibration images for the rate, the classes, or at all.
        """
        subject = subjects["calibration"]
        if len(subject.ways) < len(WAYS):
            raise ConfigError("only a model of three ways has a score to calibrate")
        began = time.monotonic()
        attack = subject.header.config.attack
        specimens = Specimens(
            threat=attackers.threat_of(attack), seed=self.seed, batch_size=self.batch_size
        )
        with predict.examined(subject.model):
            natural = specimens.natural(subject)
            divided = temperature.fitted(natural.logits, natural.label)
            self._thresholds(natural, natural.score("disbelief", divided, None))  # or fail early
            _say(console, f"temperatures: {_numbers(divided)}")
            network = self._network(specimens, subjects["train"], console)
            attacks = attackers.attackers(attack, self.steps, network)
            head = None if network is None else network.head()
            table = self._compared(specimens, subjects["validation"], attacks, divided, head)
            best = score_choice.choose(table, attackers.PLAIN)
            score = self.score or best
            _say(console, f"score: {score}; by validation images {best}")
            thresholds = self._thresholds(natural, natural.score(score, divided, head))
            known = self._sides(specimens, subject, natural, attacks[attackers.PLAIN])
            found = Decided(
                temperature=divided,
                score=score,
                head=head,
                thresholds=thresholds.fitted,
                mixture=self.search(natural, known.attacked, divided),
            )
            _say(console, f"mixture: {_numbers(found.mixture)}")
            unseen, test = self._tested(specimens, subjects["test"], attacks, found, len(natural))
        created = datetime.now(UTC).replace(microsecond=0).isoformat()
        named = self.dataset or subject.dataset
        sides = {"calibration": known, "test": unseen}
        document = {
            "format": _FORMAT,
            "dataset": named,
            "weights_sha256": subject.header.weights_sha256,
            "model": subject.header.config.name,
            "norm": attack.norm,
            "eps": attack.eps,
            "settings": dataclasses.asdict(self)
            | {"attack": setting.usual(attack).name, "mild": list(MILD)},
            "splits": {
                split: {"n_images": len(one.images), "sha256": one.images.digest()}
                for split, one in subjects.items()
            },
            "decision": found.manifest(self.policy, self.fpr)
            | {
                "calibration": {
                    "dataset": named,
                    "n_images": len(natural),
                    "sha256": subject.images.digest(),
                    "created": created,
                    "histogram": found.histogram(natural),
                    "notes": list(_NOTES),
                }
            },
            "left_out": thresholds.left_out,
            "best_score": best,
            "scores": table,
            "ece": {split: calibrated.way_errors(one, divided) for split, one in sides.items()},
            "labels": {
                split: calibrated.label_figures(one, divided, found.mixture)
                for split, one in sides.items()
            },
            "test": test,
            "commit": current_commit(),
            "torch": torch.__version__,
            "created": created,
            "seconds": round(time.monotonic() - began, 1),
        }
        return Calibration(document=document, head=head, plots=_plots(unseen, found, test["kept"]))

    def _thresholds(self, natural: Observed, scores: Scores) -> Thresholds:
        classes = natural.logits.standard.shape[1] if self.per_class else None
        try:
            found = conformal.fit(scores, natural.named, classes=classes)
        except conformal.Unfit as error:
            raise CalibrationError(f"the calibration images do not do: {error}") from error
        if self.fpr in found.left_out:
            raise CalibrationError(f"the calibration images do not do: {found.left_out[self.fpr]}")
        return found

    def _network(
        self, specimens: Specimens, subject: Subject, console: Console
    ) -> detector.Network | None:
        """The head, taught by natural, corrupted and attacked images, then against itself."""
        if self.rounds is None:
            return None
        few = sample(subject, self.count, self.seed)
        attack = subject.header.config.attack
        natural = [specimens.natural(few), specimens.corrupted(few)]
        attacked = [
            specimens.attacked(few, one)
            for one in attackers.attackers(attack, self.steps, None).values()
        ]
        network = self.fit(natural, attacked)
        for number in range(1, self.rounds + 1):
            against = attackers.attackers(attack, self.steps, network)[attackers.HEAD]
            attacked.append(specimens.attacked(few, against))
            network = self.fit(natural, attacked)
            _say(console, f"head: trained again on what passed it, round {number}")
        return network

    def _compared(
        self,
        specimens: Specimens,
        subject: Subject,
        attacks: Attacks,
        divided: Temperature,
        head: Head | None,
    ) -> score_choice.Table:
        clean, corrupted = specimens.natural(subject), specimens.corrupted(subject)
        few = sample(subject, self.count, self.seed)
        attacked = {name: specimens.attacked(few, attack) for name, attack in attacks.items()}
        naturals = {CLEAN: [clean], MIXED: [clean, corrupted]}
        return score_choice.compare(naturals, attacked, divided, head)

    def _sides(
        self, specimens: Specimens, subject: Subject, natural: Observed, attack: Attack
    ) -> Sides:
        few = sample(subject, self.count, self.seed)
        return Sides(
            natural=natural,
            paired=specimens.natural(few),
            attacked=specimens.attacked(few, attack),
        )

    def _tested(
        self,
        specimens: Specimens,
        subject: Subject,
        attacks: Attacks,
        found: Decided,
        calibrated_on: int,
    ) -> tuple[Sides, dict[str, Any]]:
        """What came of it on images that decided nothing."""
        natural = specimens.natural(subject)
        sides = self._sides(specimens, subject, natural, attacks[attackers.PLAIN])
        few = sample(subject, self.count, self.seed)
        attacked = {
            name: sides.attacked if name == attackers.PLAIN else specimens.attacked(few, attack)
            for name, attack in attacks.items()
        }
        return sides, {
            "kept": found.kept(natural, calibrated_on),
            "natural": found.alarms(natural),
            "corrupted": found.alarms(specimens.corrupted(subject)),
            "attacks": {
                name: {
                    "n_images": len(observed),
                    "successful": score_choice.share(observed.fooled),
                    "flagged": found.alarms(observed.take(observed.fooled)),
                    "right": calibrated.accuracies(observed, found.temperature, found.mixture),
                }
                for name, observed in attacked.items()
            },
        }


def write(calibration: Calibration, folder: Path) -> Path:
    """Write all files into `folder`, replacing earlier ones; returns the JSON's path.

    The JSON comes last, and names the hash of the head that it belongs to.

    Raises:
        OutputError: the folder cannot be written to.
    """
    place, digest = folder / HEAD_FILE, None
    if calibration.head is None:
        _remove(place)
    else:
        digest = detector.save(place, calibration.head)
    for name, figure in calibration.plots.items():
        style.save(figure, folder / f"{_STEM}-{name}.svg")
    links = {name: f"{_STEM}-{name}.svg" for name in calibration.plots}
    document = calibration.document | {"detector_sha256": digest}
    return write_report(folder, _STEM, document, calibration_table.render(document, links))


def _plots(unseen: Sides, found: Decided, kept: Mapping[str, Any]) -> dict[str, Figure]:
    panels = calibrated.panels(unseen, found.temperature, found.mixture)
    return {
        "promise": promise.draw(kept),
        **{name: reliability.draw(several) for name, several in panels.items()},
    }


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot remove {path}: {error.strerror}") from error


def _numbers(values: Any) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in dataclasses.asdict(values).items())


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)
