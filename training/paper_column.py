"""Which of the paper's figures stands beside which of ours, and what must be said with them.

Looks up `paper` by the names of `figures`; computes nothing. There is no counterpart where the
paper has no such data set, backbone, method or attack.
"""

import math
import re
from typing import NamedTuple

from training import paper
from training.config import parse_eps
from training.predict import WAYS


class Cell(NamedTuple):
    """A figure of the paper, in percent, and where it is printed."""

    percent: float
    table: str


Cells = dict[str, Cell]


def cells(dataset: str, backbone: str, method: str, norm: str, eps: str) -> Cells:
    """The paper's counterparts by our names; none where it has no such experiment.

    Its l2 figures stand beside `l2` and `l2_sign`, and for MNIST, where l2 cannot be meant, beside
    l_inf of the same eps instead.
    """
    stated = _stated(dataset, norm, eps)
    if stated is None:
        return {}
    data, threat = stated
    found: Cells = {}
    for row in paper.ROWS:
        if (row.data, row.backbone, row.method) == (data, backbone, method):
            found |= counterparts(row, threat.norm)
    for detection in paper.DETECTION:
        if found and data == "CIFAR-10" and detection.method == method:
            found["rad_mixture"] = Cell(detection.rad, "Table 4b")
            found["accuracy_standard_mixture"] = Cell(detection.raw, "Table 4b")
            found["accuracy_corrected_mixture"] = Cell(detection.corrected, "Table 4b")
    return found


def about(dataset: str, norm: str, eps: str) -> str:
    """What the paper says it did, and where that differs from ours; empty without counterpart."""
    stated = _stated(dataset, norm, eps)
    if stated is None:
        return ""
    data, threat = stated
    text = [
        f"The paper's: arXiv 2007.01356, on {data}, attack stated as {threat.norm} {threat.eps}, "
        f"{threat.steps} steps of {threat.step_size} (Table 4a)."
    ]
    if data == "MNIST" and norm == "linf":
        text.append("Its l2 is read as linf here: an l2 distance of 0.3 hardly changes a digit.")
    if data == "CIFAR-10" and norm == "l2":
        text.append("Its l2 is most likely the weaker sign-step attack, our `l2_sign`.")
    if data == "CIFAR-10":
        text.append("Table 4b states neither backbone nor norm and contradicts Tables 6 and 7.")
    if dataset != data:
        text.append(f"Ours are other images, {dataset}.")
    return " ".join(text)


def counterparts(row: paper.Row, norm: paper.Norm) -> Cells:
    """What one row of a table prints for one norm, by our names."""
    attacked = row.attacked[norm]
    values: dict[str, float | None] = {}
    for way in WAYS:
        if row.natural is not None:
            values[f"accuracy_{way}_natural"] = getattr(row.natural, way)
        target = way if row.attacked_way == "own" else "standard"
        values[f"accuracy_{way}_under_{target}_attack"] = getattr(attacked.ways, way)
    dia = "dia_own_attacks" if row.attacked_way == "own" else "dia_standard_attack"
    values[dia] = attacked.dia
    table = f"Table {row.table}"
    return {name: Cell(value, table) for name, value in values.items() if value is not None}


def is_data(dataset: str, data: paper.Data) -> bool:
    """Whether a data set of ours, `CIFAR-10 (JPEG)`, is a kind of the paper's; CIFAR-100 is not."""
    return re.match(rf"{data}(?![\w-])", dataset) is not None


def is_attack(data: paper.Data, stated: paper.Norm, norm: str, eps: str) -> bool:
    """Whether an attack of ours can stand where the paper states one, whatever its steps."""
    threat = paper.THREATS[data].get(stated)
    if threat is None or not math.isclose(parse_eps(threat.eps), parse_eps(eps)):
        return False
    meant = "linf" if data == "MNIST" else threat.norm
    return norm == "linf" if meant == "linf" else norm in ("l2", "l2_sign")


def _stated(dataset: str, norm: str, eps: str) -> tuple[paper.Data, paper.Threat] | None:
    """The paper's data and test attack that an attack of ours can be compared with."""
    for data, threats in paper.THREATS.items():
        for threat in threats.values():
            if is_data(dataset, data) and is_attack(data, threat.norm, norm, eps):
                return data, threat
    return None
