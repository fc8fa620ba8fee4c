"""The contract between training and service: what a model folder holds and promises.

`training.export` writes a `Manifest`, `service.repository` believes it only after checking it. This
module knows the shape of the promise; it does not know how a model is trained, loaded or run, and
it opens no file but `manifest.json` and the ones it is asked to hash.

A model folder is `models/<name>/<version>/` with

    model.onnx      input `image` float32 (N, C, H, W) in [0, 1]; the five OUTPUTS, batch dynamic
    golden.npz      `image` (n, C, H, W) float32 and what torch answered, under each name of OUTPUTS
                    (an int8 network: what it answered itself in the exporter's ONNX Runtime)
    detector.npz    weights of the detector head, under the names of `service.scores.Head`'s fields
    manifest.json   this file's `Manifest`

`detector.npz` is there where the default score is `head`.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)

from service.errors import ModelRefused
from service.scores import ScoreName

SCHEMA_VERSION: Final = 2

MANIFEST_FILE = "manifest.json"
MODEL_FILE = "model.onnx"
GOLDEN_FILE = "golden.npz"
DETECTOR_FILE = "detector.npz"

INPUT = "image"
LOGITS_STANDARD = "logits_standard"
LOGITS_ROBUST = "logits_robust"
LOGITS_NONROBUST = "logits_nonrobust"
Z_ROBUST = "z_robust"
Z_NONROBUST = "z_nonrobust"
LOGITS = (LOGITS_STANDARD, LOGITS_ROBUST, LOGITS_NONROBUST)  # (N, classes) each
FEATURES = (Z_ROBUST, Z_NONROBUST)  # (N, features) each
OUTPUTS = LOGITS + FEATURES

_CHUNK = 1 << 20
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


def parse_eps(text: str) -> float:
    """Pixel distance in [0, 1] from `"0.3"` or `"8/255"`.

    Raises:
        ValueError: neither a number nor a fraction, or not above 0.
    """
    head, slash, tail = text.partition("/")
    try:
        value = float(head) / float(tail) if slash else float(head)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{text!r} is not a distance; write 0.3 or 8/255") from None
    if not 0.0 < value < float("inf"):
        raise ValueError(f"{text!r} is not a distance above 0")
    return value


def _eps_text(text: str) -> str:
    parse_eps(text)
    return text


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[str, Field(pattern=r"^0\.[0-9]*[1-9]$")]  # of false alarms: "0.01" is 1 %
Policy = Literal["eq12", "score", "strict"]
Precision = Literal["float32", "int8"]
PositiveInt = Annotated[int, Field(gt=0)]
Temperature = Annotated[float, Field(ge=1e-3, le=1e3)]  # beyond it softmax is a step or flat


class _Closed(BaseModel):
    """Frozen, and a key that is not in the contract is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FileEntry(_Closed):
    """One file of the folder, as its bytes were when the manifest was written."""

    sha256: Sha256
    size: Annotated[int, Field(ge=0)]  # bytes


class InputSpec(_Closed):
    """What `model.onnx` eats. Normalisation happens inside the network."""

    name: Literal["image"] = "image"
    channels: Literal[1, 3]
    height: PositiveInt
    width: PositiveInt
    layout: Literal["NCHW"] = "NCHW"
    range: tuple[float, float] = (0.0, 1.0)

    @model_validator(mode="after")
    def _unit_range(self) -> Self:
        if self.range != (0.0, 1.0):
            raise ValueError(f"input range {self.range} is not [0, 1]")
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.channels, self.height, self.width


class ThreatModel(_Closed):
    """The perturbations that the model was trained against."""

    norm: Literal["linf", "l2"]
    eps: Annotated[str, AfterValidator(_eps_text)]  # as people write it: "0.3", "8/255"

    @property
    def eps_value(self) -> float:
        """`eps` as a number, in pixels of [0, 1]."""
        return parse_eps(self.eps)


class Temperatures(_Closed):
    """Divisors of each way's logits before softmax; 1 leaves them alone."""

    standard: Temperature = 1.0
    robust: Temperature = 1.0
    nonrobust: Temperature = 1.0


class Threshold(_Closed):
    """Flagged where the score is strictly above `value`.

    `interval` is where the rate of false alarms lies, with 95 % confidence over the draw of the
    calibration set, on natural images like that set's. `per_class` holds one value a class of the
    standard way, where thresholds were fitted class by class.
    """

    value: Share
    interval: tuple[Share, Share]
    per_class: tuple[Share, ...] | None = None


class MixtureSpec(_Closed):
    """Parameters of `service.mixture.Mixture`."""

    weight: Share
    scale: Annotated[float, Field(gt=0.0, le=1e3)]
    power: Annotated[float, Field(gt=0.0, le=10.0)]


class Histogram(_Closed):
    """How often a score fell between two `edges` on the calibration images."""

    edges: Annotated[tuple[Share, ...], Field(min_length=2)]
    counts: tuple[Annotated[int, Field(ge=0)], ...]

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if len(self.counts) != len(self.edges) - 1:
            raise ValueError(f"{len(self.edges)} edges need {len(self.edges) - 1} counts")
        if any(low >= high for low, high in pairwise(self.edges)):
            raise ValueError("edges do not rise")
        if not any(self.counts):
            raise ValueError("counts hold no image")
        return self


class CalibrationSpec(_Closed):
    """Which natural images the thresholds belong to."""

    dataset: str
    n_images: PositiveInt
    sha256: Sha256  # of the images
    created: AwareDatetime
    histogram: Histogram  # of the default score
    notes: tuple[str, ...] = ()


class DecisionSpec(_Closed):
    """How the three ways become a verdict.

    `policy` is the default one: `eq12` flags where the robust and the non-robust way name different
    classes; `score` where the score passes the threshold of `fpr`; `strict` accepts only where all
    three ways agree and the score does not pass.
    """

    policy: Policy = "eq12"
    score: ScoreName = "disbelief"
    fpr: Rate | None = None  # target rate where none is asked for; one of `thresholds`
    threshold: Share = 0.5  # of the score, where there is no target
    thresholds: Mapping[Rate, Threshold] = Field(default_factory=dict)
    temperatures: Temperatures = Temperatures()
    mixture: MixtureSpec | None = None
    calibration: CalibrationSpec | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.fpr is not None and self.fpr not in self.thresholds:
            raise ValueError(f"there is no threshold for the default rate {self.fpr}")
        if self.policy != "eq12" and self.fpr is None:
            raise ValueError(f"policy {self.policy} needs a default rate")
        if self.thresholds and self.calibration is None:
            raise ValueError("thresholds without the images they belong to")
        by_rate = sorted(self.thresholds.items(), key=lambda pair: float(pair[0]))
        if any(low[1].value < high[1].value for low, high in pairwise(by_rate)):
            raise ValueError("a higher rate has a higher threshold")
        for (_, low), (rate, high) in pairwise(by_rate):
            both = zip(low.per_class or (), high.per_class or (), strict=False)
            if any(one < other for one, other in both):
                raise ValueError(
                    f"per_class of rate {rate} has a higher threshold than a lower rate"
                )
        return self


class Evaluation(_Closed):
    """Measured on named data; metric names are free, values plain numbers."""

    dataset: str
    split: str
    n_images: PositiveInt
    metrics: Mapping[str, float]
    notes: tuple[str, ...] = ()


class Provenance(_Closed):
    """Where the weights come from, in enough detail to train them again."""

    commit: str
    config: Mapping[str, JsonValue]
    config_hash: str
    seed: int
    checkpoint_sha256: Sha256
    data_hashes: Mapping[str, str]
    torch_version: str
    trained_on: str  # the machine, in words
    duration_s: Annotated[float, Field(ge=0.0)]


class Parity(_Closed):
    """How far ONNX Runtime was from torch, in float32, when the folder was written."""

    onnxruntime_version: str
    n_inputs: PositiveInt
    label_agreement: Share
    max_abs_logit_difference: Annotated[float, Field(ge=0.0)]


class Manifest(_Closed):
    """`manifest.json`, whole."""

    schema_version: Literal[2] = SCHEMA_VERSION
    name: Name
    version: PositiveInt
    created: AwareDatetime
    description: str
    files: Mapping[FileName, FileEntry]
    precision: Precision = "float32"  # of the network's convolutions; int8 is for the CPU
    input: InputSpec
    labels: Annotated[tuple[str, ...], Field(min_length=2)]
    threat_model: ThreatModel
    decision: DecisionSpec = DecisionSpec()
    evaluation: Evaluation
    provenance: Provenance
    parity: Parity

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needed = [MODEL_FILE, GOLDEN_FILE]
        if self.decision.score == "head":
            needed.append(DETECTOR_FILE)
        missing = [name for name in needed if name not in self.files]
        if missing:
            raise ValueError(f"files lacks {', '.join(missing)}")
        if MANIFEST_FILE in self.files:
            raise ValueError(f"files lists {MANIFEST_FILE}, which cannot hold its own hash")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels holds a class name twice")
        for rate, threshold in self.decision.thresholds.items():
            if threshold.per_class is not None and len(threshold.per_class) != len(self.labels):
                raise ValueError(f"per_class of rate {rate} needs a value for each label")
        return self


def version_number(text: str) -> int | None:
    """The version that a folder's name or an operator says; None where it is none of 1, 2, 3 ..."""
    return int(text) if _VERSION.fullmatch(text) else None


def sha256_file(path: Path) -> str:
    """Hex digest of a file's bytes, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def file_entry(path: Path) -> FileEntry:
    """The entry of a file that is finished."""
    return FileEntry(sha256=sha256_file(path), size=path.stat().st_size)


def write_manifest(manifest: Manifest, folder: Path) -> Path:
    """Write `manifest.json` into the folder: whole or not at all, also through a crash."""
    target = folder / MANIFEST_FILE
    draft = folder / f".{MANIFEST_FILE}.{os.getpid()}"
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(manifest.model_dump_json(indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return target


def read_manifest(folder: Path) -> Manifest:
    """Read and check the shape of `manifest.json`; the files it names are not opened.

    Raises:
        ModelRefused: there is none, it is not JSON, or it breaks the contract.
    """
    path = folder / MANIFEST_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelRefused(folder, f"{MANIFEST_FILE} cannot be read ({_why(error)})") from error
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        raise ModelRefused(folder, f"{MANIFEST_FILE}: {_first(error)}") from error


def _why(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or "not UTF-8 text"


def _first(error: ValidationError) -> str:
    """The first fault in words, `input.channels: Input should be 1 or 3`."""
    fault: Any = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in fault["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{place}: {fault['msg']}{more}" if place else f"{fault['msg']}{more}"
