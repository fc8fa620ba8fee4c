"""The figures that the paper prints (arXiv 2007.01356), in percent, to stand beside ours.

Data alone, with table numbers; nothing here is ever mixed into a measurement. Cells that the paper
leaves empty are None. Table 4b names neither backbone nor norm, and no reading of its "equal
mixture" agrees with the accuracies of Tables 6 and 7.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

Data = Literal["CIFAR-10", "MNIST"]
Backbone = Literal["wide_resnet34_10", "preact_resnet18", "small_cnn"]
Method = Literal["st", "at", "st+at", "pi", "aat", "aat++"]
Norm = Literal["linf", "l2"]  # as the paper states it


class Ways(NamedTuple):
    """Accuracy in percent of the standard, the robust and the non-robust way."""

    standard: float | None
    robust: float | None
    nonrobust: float | None


class Threat(NamedTuple):
    """A test attack as Table 4a states it."""

    norm: Norm
    eps: str
    step_size: str
    steps: int


class Attacked(NamedTuple):
    """Accuracy under attack and DIA, in percent."""

    ways: Ways
    dia: float | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method of one table. `attacked` is by the norm that the paper states."""

    table: int
    data: Data
    backbone: Backbone
    method: Method
    attacked_way: Literal["own", "standard"]  # each way attacked itself, or all see one attack
    natural: Ways | None
    attacked: dict[Norm, Attacked]


@dataclass(frozen=True, kw_only=True)
class Detection:
    """One method of Table 4b, CIFAR-10: accuracy before and after correction, and RAD."""

    method: Method
    rad: float
    raw: float
    corrected: float


# Table 4a, test. MNIST's l2 must be l_inf: at a true l2 distance of 0.3 a digit hardly changes.
THREATS: dict[Data, dict[Norm, Threat]] = {
    "CIFAR-10": {
        "linf": Threat("linf", "8/255", "2/255", 20),
        "l2": Threat("l2", "0.3", "0.1", 20),
    },
    "MNIST": {"l2": Threat("l2", "0.3", "0.01", 10)},
}


def _own(
    table: int,
    data: Data,
    backbone: Backbone,
    method: Method,
    natural: tuple[float | None, float | None, float | None],
    **attacked: tuple[float | None, float | None, float | None],
) -> Row:
    """Natural S, R, N and by norm (R, N, DIA), each way under its own attack: Tables 1-3."""
    cells = {norm: Attacked(Ways(None, r, n), dia) for norm, (r, n, dia) in attacked.items()}
    return Row(
        table=table,
        data=data,
        backbone=backbone,
        method=method,
        attacked_way="own",
        natural=Ways(*natural),
        attacked={norm: cells[norm] for norm in ("linf", "l2") if norm in cells},
    )


def _standard(
    table: int,
    data: Data,
    backbone: Backbone,
    method: Method,
    **attacked: tuple[float | None, float | None, float | None, float | None],
) -> Row:
    """By norm (S, R, N, DIA), all under the attack on the standard way: Tables 6-8."""
    cells = {norm: Attacked(Ways(s, r, n), dia) for norm, (s, r, n, dia) in attacked.items()}
    return Row(
        table=table,
        data=data,
        backbone=backbone,
        method=method,
        attacked_way="standard",
        natural=None,
        attacked={norm: cells[norm] for norm in ("linf", "l2") if norm in cells},
    )


_WIDE: tuple[Data, Backbone] = ("CIFAR-10", "wide_resnet34_10")
_PREACT: tuple[Data, Backbone] = ("CIFAR-10", "preact_resnet18")
_CNN: tuple[Data, Backbone] = ("MNIST", "small_cnn")

ROWS: tuple[Row, ...] = (
    _own(1, *_WIDE, "st", (None, None, 95.1), linf=(None, 0.0, None), l2=(None, 33.8, None)),
    _own(1, *_WIDE, "at", (None, 90.0, None), linf=(39.9, None, None), l2=(84.0, None, None)),
    _own(1, *_WIDE, "st+at", (None, 90.0, 95.1), linf=(39.9, 0.0, 39.9), l2=(84.0, 33.8, 50.2)),
    _own(1, *_WIDE, "pi", (86.8, 79.9, 81.9), linf=(0.0, 0.0, 0.0), l2=(39.3, 2.3, 37.0)),
    _own(1, *_WIDE, "aat", (95.2, 91.1, 94.7), linf=(21.7, 0.0, 21.7), l2=(81.7, 25.0, 56.7)),
    _own(1, *_WIDE, "aat++", (94.1, 88.7, 93.7), linf=(39.9, 0.0, 39.9), l2=(82.5, 5.3, 77.2)),
    _own(2, *_PREACT, "st", (None, None, 94.2), linf=(None, 0.0, None), l2=(None, 35.1, None)),
    _own(2, *_PREACT, "at", (None, 89.0, None), linf=(35.7, None, None), l2=(81.5, None, None)),
    _own(2, *_PREACT, "st+at", (None, 89.0, 94.2), linf=(35.7, 0.0, 35.7), l2=(81.5, 35.1, 46.4)),
    # The natural figures of the next row are Table 1's, of another backbone.
    _own(2, *_PREACT, "pi", (86.8, 79.9, 81.9), linf=(0.0, 0.0, 0.0), l2=(41.4, 0.8, 40.6)),
    _own(2, *_PREACT, "aat", (94.8, 91.8, 93.8), linf=(10.8, 0.0, 10.8), l2=(79.9, 22.1, 57.8)),
    _own(2, *_PREACT, "aat++", (94.2, 88.2, 93.7), linf=(33.5, 0.0, 33.5), l2=(81.0, 28.2, 52.8)),
    _own(3, *_CNN, "st", (None, None, 99.5), l2=(None, 17.9, None)),
    _own(3, *_CNN, "at", (None, 99.5, None), l2=(90.1, None, None)),
    _own(3, *_CNN, "st+at", (None, 99.5, 99.5), l2=(90.1, 17.9, 72.2)),
    _own(3, *_CNN, "aat", (99.6, 99.6, 99.5), l2=(82.9, 4.6, 78.3)),
    _own(3, *_CNN, "aat++", (99.6, 99.5, 99.4), l2=(89.9, 0.0, 89.9)),
    _standard(6, *_WIDE, "st", linf=(None, None, 0.0, None), l2=(None, None, 33.8, None)),
    _standard(6, *_WIDE, "at", linf=(None, 39.9, None, None), l2=(None, 84.0, None, None)),
    _standard(6, *_WIDE, "pi", linf=(0.0, 5.2, 0.0, 5.2), l2=(22.5, 64.8, 4.9, 59.9)),
    _standard(6, *_WIDE, "aat", linf=(0.0, 59.5, 0.0, 59.5), l2=(69.0, 89.8, 35.2, 54.6)),
    _standard(6, *_WIDE, "aat++", linf=(9.8, 66.4, 0.0, 66.4), l2=(77.9, 89.0, 23.7, 65.3)),
    _standard(7, *_PREACT, "st", linf=(None, None, 0.0, None), l2=(None, None, 35.1, None)),
    _standard(7, *_PREACT, "at", linf=(None, 35.7, None, None), l2=(None, 81.5, None, None)),
    _standard(7, *_PREACT, "pi", linf=(0.0, 8.2, 0.0, 8.2), l2=(21.6, 65.7, 1.3, 64.4)),
    _standard(7, *_PREACT, "aat", linf=(0.2, 38.9, 0.0, 38.9), l2=(66.6, 88.1, 31.4, 56.7)),
    _standard(7, *_PREACT, "aat++", linf=(1.3, 63.8, 0.0, 63.8), l2=(68.4, 86.5, 35.3, 51.2)),
    _standard(8, *_CNN, "st", l2=(None, None, 17.4, None)),
    _standard(8, *_CNN, "at", l2=(None, 89.8, None, None)),
    _standard(8, *_CNN, "aat", l2=(51.0, 93.9, 30.4, 63.5)),
    _standard(8, *_CNN, "aat++", l2=(12.6, 97.8, 7.3, 90.5)),
)

DETECTION: tuple[Detection, ...] = (  # Table 4b
    Detection(method="pi", rad=4.9, raw=4.6, corrected=15.2),
    Detection(method="aat", rad=64.8, raw=61.8, corrected=65.5),
    Detection(method="aat++", rad=68.8, raw=67.1, corrected=69.1),
)
