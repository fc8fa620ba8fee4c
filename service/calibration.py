"""New thresholds for a model from somebody's own natural images.

    files > scores, as the service computes them > refused, or fitted > a manifest with thresholds

The network stays as it is. Images that cannot be natural ones of this model are refused: their
thresholds would let pass what they were made of. Knows neither flags nor how a version is written.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service import conformal, drift
from service.catalogue import Model
from service.conformal import Fitted, Thresholds
from service.decision import Finding
from service.errors import CalibrationRefused, FileUnreadable, ImageRefused
from service.images import Limits, ModelInput, Upload, prepare
from service.inference import infer
from service.manifest import (
    CalibrationSpec,
    DecisionSpec,
    Histogram,
    Manifest,
    Policy,
    Threshold,
)
from service.scores import Labels, Scores

MAX_SHIFT = 0.15  # of the scores; about the share of attacked images that would pass unnoticed
_LEAST_FLAGGED = 0.05  # by Eq. 12; a share up to this is never refused
_TIMES_FLAGGED = 5  # as many as the evaluation's false alarms
_FALSE_ALARMS = "false_alarm_rate"  # the evaluation's metric: natural images that Eq. 12 flags
_PREFERRED_RATE = 0.01  # default where the model had none
_BATCH = 32
_NAMED = 5  # unusable files in the message

_HINT = (
    "calibrate on images as the pipeline sees them, none of them attacked; --max-shift or "
    "--max-flagged where they are natural all the same"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What an operator asks of a calibration."""

    data_name: str  # what the images are, in words
    policy: Policy | None = None  # default of the new version; else the old one's
    fpr: str | None = None  # its default rate; else the old one's, where it was fitted
    per_class: bool = False
    max_shift: float = MAX_SHIFT  # Kolmogorov-Smirnov distance, in [0, 1]
    max_flagged: float | None = None  # share, in [0, 1]; else by the evaluation's false alarms
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What the model says of n images, (n,) each."""

    scores: Scores
    labels: Labels  # of the standard way
    flagged: NDArray[np.bool_]  # by Eq. 12
    differ: NDArray[np.bool_]  # any two of the three ways
    resized: int  # images of another size than the model's
    repeated: int  # files left out, as their bytes are those of another
    sha256: str  # of the files without repeats, in whatever order


def image_files(paths: Sequence[Path]) -> list[Path]:
    """The files named, and all under the folders named but hidden ones; each once, in order.

    Raises:
        FileUnreadable: a path is not there.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise FileUnreadable(path, "there is no such file or folder")
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            inside = file.relative_to(path).parts if path.is_dir() else ()
            if file.is_file() and not any(part.startswith(".") for part in inside):
                found.setdefault(file.resolve(), file)
    return list(found.values())


def examine(model: Model, files: Sequence[Path], limits: Limits) -> Seen:
    """Scores as the service computes them, of each distinct file once.

    Only what is in `Seen` is kept of an image, so memory does not grow with the classes.

    Raises:
        FileUnreadable: a file may not be read.
        CalibrationRefused: some are no images, or the model gives one no finite answer; named.
    """
    digests: set[bytes] = set()
    unusable: list[str] = []
    scores: list[float] = []
    labels: list[int] = []
    flagged: list[bool] = []
    differ: list[bool] = []
    resized = 0
    inputs = _inputs(model, files, limits, digests, unusable)
    while batch := list(islice(inputs, _BATCH)):
        answers = infer(model, [image.pixels[None] for _, image in batch])
        for (file, image), answer in zip(batch, answers, strict=True):
            if isinstance(answer, Finding):
                ways = {one.label for one in (answer.standard, answer.robust, answer.nonrobust)}
                scores.append(answer.score)
                labels.append(answer.standard.label)
                flagged.append(answer.adversarial)
                differ.append(len(ways) > 1)
                resized += image.resized
            else:
                unusable.append(f"{file} ({answer})")
    if unusable:
        more = f", and {len(unusable) - _NAMED} more" if len(unusable) > _NAMED else ""
        raise CalibrationRefused(
            f"of {len(files)} files {len(unusable)} cannot be used: "
            f"{', '.join(unusable[:_NAMED])}{more}",
            "name images only, in a format that the service reads",
        )
    return Seen(
        scores=np.array(scores),
        labels=np.array(labels, np.intp),
        flagged=np.array(flagged, np.bool_),
        differ=np.array(differ, np.bool_),
        resized=resized,
        repeated=len(files) - len(digests),
        sha256=hashlib.sha256(b"".join(sorted(digests))).hexdigest(),
    )


def recalibrated(manifest: Manifest, seen: Seen, wanted: Wanted, now: datetime) -> Manifest:
    """The manifest with new thresholds and the histogram they belong to; its version stays.

    Raises:
        CalibrationRefused: the images cannot calibrate, or the default rate was not fitted.
    """
    old = manifest.decision
    _refuse_flagged(manifest, seen, wanted.max_flagged)
    try:
        thresholds = conformal.fit(
            seen.scores, seen.labels, classes=len(manifest.labels) if wanted.per_class else None
        )
    except conformal.Unfit as error:
        raise CalibrationRefused(
            str(error), "name more images, of all classes, none of them attacked"
        ) from None
    shift = _refuse_shifted(old, seen, wanted.max_shift)
    fpr = _default_rate(thresholds, wanted.fpr, old.fpr)
    edges, counts = drift.histogram(seen.scores)
    notes = [
        f"The network is that of version {manifest.version}.",
        _alarms(seen, fpr, thresholds.fitted[fpr]),
        shift,
        f"{seen.resized} images had another size than the model's." if seen.resized else "",
        f"{seen.repeated} files repeat another and were left out." if seen.repeated else "",
        *(f"Left out: {why}." for why in thresholds.left_out.values()),
        wanted.note or "",
    ]
    changes = {
        "policy": wanted.policy or old.policy,
        "fpr": fpr,
        "thresholds": {
            rate: Threshold(value=one.value, interval=one.interval, per_class=one.per_class)
            for rate, one in thresholds.fitted.items()
        },
        "calibration": CalibrationSpec(
            dataset=wanted.data_name,
            n_images=len(seen.scores),
            sha256=seen.sha256,
            created=now,
            histogram=Histogram(edges=edges, counts=counts),
            notes=tuple(note for note in notes if note),
        ),
    }
    decision = DecisionSpec.model_validate(old.model_dump() | changes)
    return Manifest.model_validate(manifest.model_dump() | {"created": now, "decision": decision})


def _inputs(
    model: Model,
    files: Sequence[Path],
    limits: Limits,
    digests: set[bytes],
    unusable: list[str],
) -> Iterator[tuple[Path, ModelInput]]:
    """Images ready for the model, one by one; notes every digest and what is no image.

    A file whose bytes were there before is passed over: it is no independent draw.
    """
    for file in files:
        try:
            data = file.read_bytes()
        except OSError as error:
            raise FileUnreadable(file, error.strerror or str(error)) from error
        digest = hashlib.sha256(data).digest()
        if digest in digests:
            continue
        digests.add(digest)
        try:
            image = prepare(Upload(data), model.manifest.input, limits, strict_size=False)
        except ImageRefused as error:
            unusable.append(f"{file} ({error})")
        else:
            yield file, image


def _refuse_flagged(manifest: Manifest, seen: Seen, bound: float | None) -> None:
    """Refuses where Eq. 12 flags far more of the images than the evaluation says of natural ones.

    Beside the scores, which a present calibration with attacked images in it would not tell apart.
    """
    if bound is None:
        alarms = manifest.evaluation.metrics.get(_FALSE_ALARMS, 0.0)
        bound = max(_LEAST_FLAGGED, _TIMES_FLAGGED * alarms)
    share = float(seen.flagged.mean()) if len(seen.flagged) else 0.0
    if not share <= bound:
        raise CalibrationRefused(
            f"Eq. 12 flags {share:.1%} of the images, and {bound:.1%} is the most; they look "
            "attacked, or are none that the model knows",
            _HINT,
        )


def _refuse_shifted(old: DecisionSpec, seen: Seen, bound: float) -> str:
    """A note on how far the scores are from the present calibration's; refused beyond the bound."""
    if old.calibration is None:
        return ""
    reference = old.calibration.histogram
    found = drift.binned(seen.scores, reference.edges)
    distance = drift.ks_distance(np.array(reference.counts), found)
    if not distance <= bound:  # NaN is neither
        raise CalibrationRefused(
            f"the scores are {distance:.2f} (Kolmogorov-Smirnov) from the present calibration's, "
            f"and {bound:.2f} is the most; the images look attacked, or are none that the model "
            "knows",
            _HINT,
        )
    return f"The scores are {distance:.2f} (Kolmogorov-Smirnov) from those of that version."


def _default_rate(thresholds: Thresholds, asked: str | None, before: str | None) -> str:
    """What was asked for, else what was before, else the first from 1 % on that was fitted."""
    fitted = thresholds.fitted
    if asked is not None and asked not in fitted:
        raise CalibrationRefused(
            f"these images give no threshold at the rate {asked}: {thresholds.left_out[asked]}",
            f"they give {', '.join(fitted)}; more images, all natural, give lower ones",
        )
    for rate in (asked, before):
        if rate is not None and rate in fitted:
            return rate
    return next(rate for rate in fitted if float(rate) >= _PREFERRED_RATE)


def _alarms(seen: Seen, fpr: str, fitted: Fitted) -> str:
    """What the policies without a promised rate do to these images."""
    by_class = fitted.per_class
    thresholds = fitted.value if by_class is None else np.array(by_class)[seen.labels]
    strict = seen.differ | (seen.scores > thresholds)
    return (
        f"Of these images Eq. 12 flags {seen.flagged.mean():.2%}; strict at {fpr} rejects "
        f"{strict.mean():.2%}."
    )
