"""An experiment as a frozen value: TOML file plus `key=value` overrides, unknown keys refused.

Does not know what a backbone, an attack or an optimiser is: it only holds their settings. Learning
rates, step sizes and ramps are derived from these values where they are used.
"""

import dataclasses
import hashlib
import json
import math
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails

from training.errors import TrainingError

Method = Literal["st", "at", "aat", "aat++"]
Norm = Literal["linf", "l2", "l2_sign"]
Way = Literal["standard", "robust", "nonrobust"]

# A number may stand for the text it is written as, so that `eps = 0.3` needs no quotes.
_CLOSED = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

PositiveInt = Annotated[int, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # times a stride it must fit torch's 64 bits
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Weight = Annotated[float, Field(ge=0.0, le=1e3)]


class ConfigError(TrainingError):
    """The experiment file or an override is wrong; the message names the key and the value."""


def parse_eps(text: str | float) -> float:
    """Pixel distance in [0, 1] from `0.3`, `"0.3"` or `"8/255"`.

    Raises:
        ConfigError: not a finite number or fraction, or negative.
    """
    head, slash, tail = str(text).partition("/")
    try:
        value = float(head) / float(tail) if slash else float(head)
    except (ValueError, ZeroDivisionError) as error:
        raise ConfigError(f"{text!r} is not a distance; write 0.3 or 8/255") from error
    if not math.isfinite(value):
        raise ConfigError(f"{text!r} is not a distance; write 0.3 or 8/255")
    if value < 0:
        raise ConfigError(f"{text!r} is negative; a distance is at least 0")
    return value


def _distance(text: str) -> str:
    parse_eps(text)
    return text


def _radius(text: str) -> str:
    if parse_eps(text) == 0:
        raise ConfigError(f"{text!r} is no room for an attack; eps is above 0")
    return text


Radius = Annotated[str, AfterValidator(_radius)]  # both are kept as they were written
Distance = Annotated[str, AfterValidator(_distance)]


@dataclass(frozen=True, kw_only=True, config=_CLOSED)
class DataConfig:
    source: str  # mnist:DIR | cifar10:DIR | imagefolder:DIR | parquet:DIR
    validation: PositiveInt = 2500  # images cut from the training set to watch a run
    calibration: PositiveInt = 2500  # images cut from the training set for thresholds
    split_seed: Seed = 0  # which images; the same for every method that is compared
    image_size: PositiveInt | None = None  # imagefolder, parquet: resize to this square
    shift: Annotated[int, Field(ge=0)] = 0  # random translation in pixels, zero-padded
    flip: bool = False  # random mirror image


@dataclass(frozen=True, kw_only=True, config=_CLOSED)
class ModelConfig:
    backbone: str  # small_cnn | preact_resnet18 | wide_resnet34_10 | torchvision:NAME
    width: PositiveInt | None = None  # narrower network for tests; None is the published width


@dataclass(frozen=True, kw_only=True, config=_CLOSED)
class StepConfig:
    """PGD steps against one way: `step_size` is in pixels, written like eps."""

    steps: Annotated[int, Field(ge=0)]
    step_size: Distance


@dataclass(frozen=True, kw_only=True, config=_CLOSED)
class AttackConfig:
    norm: Norm
    eps: Radius
    standard: StepConfig
    robust: StepConfig
    nonrobust: StepConfig
    ramp: Share = 0.0  # eps and step size grow linearly over this share of all steps


@dataclass(frozen=True, kw_only=True, config=_CLOSED)
class LossConfig:
    """Weights of Eq. 11's terms beside L_ST, whose weight is 1; 0 leaves a term and its attack out.

    All ones is AAT++; Figure 2b's ablation and a stronger robust way are made of other values.
    """

    asymmetric: Weight = 1.0  # L_AS, Eq. 7
    robust: Weight = 1.0  # L_AR, Eq. 9
    nonrobust: Weight = 1.0  # L_AN, Eq. 10


@dataclass(frozen=True, kw_only=True, config=_CLOSED)
class OptimizerConfig:
    name: Literal["sgd", "adamw"] = "sgd"
    lr: Annotated[float, Field(gt=0, le=1e6)]
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9  # beta 1 for AdamW
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    batch_size: PositiveInt = 256
    epochs: PositiveInt
    schedule: Literal["milestones", "one_cycle"] = "milestones"
    milestones: tuple[PositiveInt, ...] = ()  # epochs after which lr is multiplied by gamma
    gamma: Share = 0.1
    warm_up: Share = 0.0  # share of all steps over which lr rises from 0
    clip_norm: Annotated[float, Field(gt=0)] | None = None  # of the whole gradient
    ema: Share = 0.0  # decay of the averaged weights; 0 keeps none


@dataclass(frozen=True, kw_only=True, config=_CLOSED)
class ComputeConfig:
    """How a step is computed; what it trains is the same, up to rounding and batch statistics."""

    fused: bool = True  # the attacks of a step in one graph, not one after another
    joint: bool = False  # an encoder sees all its images of a step as one batch
    channels_last: bool = True  # the layout that convolutions in bfloat16 are fast in
    compile: bool = False  # encoders through torch.compile


@dataclass(frozen=True, kw_only=True, config=_CLOSED)
class Config:
    """One experiment. `seed` fixes initial weights, batch order, augmentation and attacks."""

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")]  # of the run's folder too
    method: Method
    seed: Seed = 0
    precision: Literal["float32", "bfloat16"] = "float32"  # autocast in training only
    keep: Literal["last", "best"] = "last"  # which epoch's weights to use: see `train`
    data: DataConfig
    model: ModelConfig
    attack: AttackConfig
    optimizer: OptimizerConfig
    loss: LossConfig = LossConfig()  # of aat++ alone
    compute: ComputeConfig = ComputeConfig()

    def __post_init__(self) -> None:
        if self.method != "aat++" and self.loss != LossConfig():
            raise ConfigError(f"loss: aat++ has terms to weigh, {self.method} has none")

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types, the inverse of `from_dict`."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return values

    def digest(self) -> str:
        """SHA-256 of the values: two runs with one digest were asked for the same thing."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()


def from_dict(values: dict[str, Any]) -> Config:
    """Config from plain values.

    Raises:
        ConfigError: unknown key, missing key, wrong type or a value out of range.
    """
    try:
        return TypeAdapter(Config).validate_python(values)
    except ValidationError as error:
        raise ConfigError(f"the experiment is not valid: {faults(error)}") from error


def faults(error: ValidationError) -> str:
    """What pydantic found wrong, on one line."""
    return "; ".join(_fault(fault) for fault in error.errors())


def _fault(fault: ErrorDetails) -> str:
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "unexpected_keyword_argument":
        return f"{key} is not a key"
    if fault["type"] == "missing":
        return f"{key} is missing"
    if fault["type"] == "value_error":
        return f"{key}: {fault['ctx']['error']}" if key else str(fault["ctx"]["error"])
    return f"{key}: {fault['msg']}, not {fault['input']!r}"


def load(path: Path, overrides: tuple[str, ...] = ()) -> Config:
    """Read a TOML experiment and apply `section.key=value` overrides, values written as in TOML.

    Raises:
        ConfigError: unreadable file, malformed override, or anything `from_dict` refuses.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    for override in overrides:
        _apply(values, override)
    return from_dict(values)


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"{override!r} is not an override; write section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word is a string, as in `data.source=mnist:data`
    *sections, leaf = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{override!r}: {section!r} is a value, not a section")
    values[leaf] = value
