"""The stage `shift`: corrupted natural images, and how often the detector takes them for attacks.

The non-robust way is trained to turn on small changes, and noise or a turned camera is a change
too: every alarm here is a false one. Thresholds of the score are read off clean calibration images,
never off those that are measured. Leaves `shift.json`, `shift.md`, `shift.svg` and
`shift-samples.png`. What a corruption is, is `corruptions`' business; nobody attacks here.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console

from training import metrics, predict, shift_table
from training.arrays import joined
from training.checkpoint import current_commit
from training.config import ConfigError
from training.corruptions import CORRUPTIONS, SEVERITIES, corrupt, named
from training.data import to_float
from training.figures import FPR_TARGETS
from training.files import write_report
from training.metrics import Flags
from training.plots import contact_sheet, style
from training.plots import shift as plot
from training.predict import WAYS, Answers
from training.subject import Subject

_STEM = "shift"
JSON_FILE, TABLE_FILE, PLOT_FILE = f"{_STEM}.json", f"{_STEM}.md", f"{_STEM}.svg"
SAMPLES_FILE = f"{_STEM}-samples.png"

_FORMAT = 1
_SHOWN, _SHOWN_SEVERITIES = 3, (1, 3, 5)  # images and severities of the sample sheet

Hits = Mapping[str, Flags]  # by figure, which images count
Share = dict[str, Any]  # `value` and its two-sided 95 % `interval`


@dataclass(frozen=True, kw_only=True)
class Shift:
    """Which `corruptions`, in the order of the report; empty for all that the images can have."""

    corruptions: tuple[str, ...] = ()
    dataset: str | None = None  # None: from the data source
    seed: int = 0
    batch_size: int = 250

    def __post_init__(self) -> None:
        for name in self.corruptions:
            named(name)

    def __call__(self, subject: Subject, calibration: Subject, console: Console) -> dict[str, Any]:
        """Everything `shift.json` holds, as JSON types; shares are in [0, 1].

        `calibration` is the same model with clean images that are not the subject's.

        Raises:
            ConfigError: a model without a detector, images that set the thresholds themselves, or
                a corruption that they cannot have.
        """
        if len(subject.ways) < len(WAYS):
            raise ConfigError("only a model of three ways has a detector that can raise an alarm")
        if subject.split == calibration.split:
            raise ConfigError(
                f"the {subject.split} images set the thresholds; measure on another split"
            )
        began = time.monotonic()
        names = self.names(subject)
        with predict.examined(subject.model):
            clean = self._clean(calibration)
            thresholds = _thresholds(clean)
            natural = _hits(subject, self._clean(subject), thresholds)
            results, means = self._results(subject, names, thresholds, console)
        return {
            "format": _FORMAT,
            "dataset": self.dataset or subject.dataset,
            "split": subject.split,
            "n_images": len(subject.images),
            "available": subject.available,
            "index": list(subject.index),
            "data_sha256": subject.images.digest(),
            "weights_sha256": subject.header.weights_sha256,
            "model": subject.header.config.name,
            "norm": subject.header.config.attack.norm,
            "eps": subject.header.config.attack.eps,
            "settings": {**vars(self), "corruptions": list(names)},
            "absent": _absent(subject),
            "thresholds": thresholds,
            "calibration": {
                "n_images": len(calibration.images),
                "sha256": calibration.images.digest(),
                "figures": _shares(_hits(calibration, clean, thresholds)),
            },
            "natural": _shares(natural),
            "means": means,
            "results": results,
            "commit": current_commit(),
            "torch": torch.__version__,
            "created": datetime.now(UTC).replace(microsecond=0).isoformat(),
            "seconds": round(time.monotonic() - began, 1),
        }

    def names(self, subject: Subject) -> tuple[str, ...]:
        """The corruptions that are measured."""
        return self.corruptions or tuple(
            name for name in CORRUPTIONS if name not in _absent(subject)
        )

    def samples(self, subject: Subject) -> Image.Image:
        """The first few images, clean and under every corruption: what the severities are."""
        few = subject.images.take(slice(_SHOWN)).pixels
        rows = []
        for name in self.names(subject):
            shown = [few] + [
                corrupt(few, name, severity, seed=self.seed, positions=subject.index[: len(few)])
                for severity in _SHOWN_SEVERITIES
            ]
            rows.append((name, list(torch.cat(shown))))
        return contact_sheet.sheet(
            rows, ["clean", *(f"severity {one}" for one in _SHOWN_SEVERITIES)]
        )

    def _clean(self, subject: Subject) -> Answers:
        return predict.natural(subject.model, subject.images, WAYS, self.batch_size, subject.device)

    def _results(
        self,
        subject: Subject,
        names: Sequence[str],
        thresholds: Mapping[str, float],
        console: Console,
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Every corruption at every severity, then the mean over corruptions at each severity."""
        found: dict[int, list[Hits]] = {severity: [] for severity in SEVERITIES}
        results = []
        for name in names:
            for severity in SEVERITIES:
                answers = self._corrupted(subject, name, severity)
                found[severity].append(_hits(subject, answers, thresholds))
                results.append(
                    {
                        "corruption": name,
                        "severity": severity,
                        "amount": CORRUPTIONS[name].amounts[severity - 1],
                        "figures": _shares(found[severity][-1]),
                    }
                )
            line = shift_table.line(name, results[-len(SEVERITIES) :])
            console.print(line, highlight=False, soft_wrap=True)
        means = [
            {
                "severity": severity,
                "figures": {
                    figure: _mean([hits[figure] for hits in several]) for figure in several[0]
                },
            }
            for severity, several in found.items()
        ]
        return results, means

    def _corrupted(self, subject: Subject, name: str, severity: int) -> Answers:
        """What all ways say; no corrupted image outlives its batch."""
        found = []
        for start in range(0, len(subject.images), self.batch_size):
            rows = slice(start, start + self.batch_size)
            pixels = corrupt(
                subject.images.pixels[rows],
                name,
                severity,
                seed=self.seed,
                positions=subject.index[rows],
            )
            found.append(predict.answer(subject.model, to_float(pixels.to(subject.device)), WAYS))
        return joined(found)


def write(document: dict[str, Any], samples: Image.Image, folder: Path) -> Path:
    """Write all four files into `folder`, replacing earlier ones; returns the JSON's path.

    Raises:
        OutputError: the folder cannot be written to.
    """
    contact_sheet.save(samples, folder / SAMPLES_FILE)
    style.save(plot.draw(document), folder / PLOT_FILE)
    return write_report(
        folder, _STEM, document, shift_table.render(document, PLOT_FILE, SAMPLES_FILE)
    )


def _thresholds(clean: Answers) -> dict[str, float]:
    """Of the score, by the share of clean images above it in percent."""
    scores = metrics.score(clean["robust"], clean["nonrobust"])
    return {
        percent: metrics.threshold_at_fpr(scores, target) for percent, target in FPR_TARGETS.items()
    }


def _absent(subject: Subject) -> dict[str, str]:
    """Corruptions that these images cannot have, with the reason."""
    if subject.images.pixels.shape[1] > 1:
        return {}
    return {
        name: "grey images have no colours"
        for name, corruption in CORRUPTIONS.items()
        if corruption.colour_only
    }


def _hits(subject: Subject, answers: Answers, thresholds: Mapping[str, float]) -> Hits:
    """Which images each way and the corrected label name rightly, and which raise an alarm."""
    label = subject.images.label.numpy()
    standard, robust, nonrobust = (answers[way].argmax(axis=1) for way in WAYS)
    flags = metrics.flagged(robust, nonrobust)
    score = metrics.score(answers["robust"], answers["nonrobust"])
    return {
        "accuracy_standard": standard == label,
        "accuracy_robust": robust == label,
        "accuracy_nonrobust": nonrobust == label,
        "accuracy_corrected": metrics.corrected(standard, robust, flags) == label,
        "false_alarm_rate": flags,
        **{f"alarm_rate_{percent}": score > limit for percent, limit in thresholds.items()},
    }


def _shares(hits: Hits) -> dict[str, Share]:
    return {name: _mean([flags]) for name, flags in hits.items()}


def _mean(several: Sequence[Flags]) -> Share:
    """Mean of the shares of one set of images under several corruptions, of one its share.

    The interval is that of a single share of as many images. Verdicts on one image under several
    corruptions vary together at most as if they were one, so that it is never too narrow.
    """
    value = float(np.mean(several))
    count = len(several[0])
    return {"value": value, "interval": list(metrics.wilson_interval(round(value * count), count))}
