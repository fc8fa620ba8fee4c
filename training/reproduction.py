"""The paper's tables with ours under each row, as Markdown. Pure text from evaluations' documents.

A row of the paper is followed by a row for each evaluation of the same data, backbone and method,
or by one that says that it was not run. Nothing of the paper's enters a row of ours.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from training import paper, paper_column
from training.figures import NAMES
from training.markdown import table
from training.predict import WAYS

Document = Mapping[str, Any]  # of `evaluate`

PLAIN = {"asymmetric": 1.0, "robust": 1.0, "nonrobust": 1.0}  # weights of AAT++

_TITLES = {
    1: "CIFAR-10, WideResNet-34-10, each way under the attack on itself",
    2: "CIFAR-10, PreAct-ResNet18, each way under the attack on itself",
    3: "MNIST, small CNN, each way under the attack on itself",
    6: "CIFAR-10, WideResNet-34-10, attack on the standard way",
    7: "CIFAR-10, PreAct-ResNet18, attack on the standard way",
    8: "MNIST, small CNN, attack on the standard way",
}
_LETTERS = {"standard": "S", "robust": "R", "nonrobust": "N"}
_EMPTY = "–"  # noqa: RUF001  # an en dash, as tables have it

# Figure 2b: a stage is a method and the weights of its terms.
STAGES: Mapping[str, tuple[str, Mapping[str, float]]] = {
    "L_ST": ("aat++", {"asymmetric": 0.0, "robust": 0.0, "nonrobust": 0.0}),
    "L_ST + L_AS (AAT)": ("aat", PLAIN),
    "L_ST + L_AS + L_AR": ("aat++", {"asymmetric": 1.0, "robust": 1.0, "nonrobust": 0.0}),
    "L_ST + L_AS + L_AR + L_AN (AAT++)": ("aat++", PLAIN),
}
_ABLATED = {
    "S": "accuracy_standard_natural",
    "R": "accuracy_robust_natural",
    "N": "accuracy_nonrobust_natural",
    "R attacked": "accuracy_robust_under_robust_attack",
    "N attacked": "accuracy_nonrobust_under_nonrobust_attack",
    "DIA": "dia_own_attacks",
}


class Column(NamedTuple):
    """A column of a table: its title, our name of the figure, the norm that the paper states."""

    title: str
    figure: str
    norm: paper.Norm | None  # none for natural images


def paper_table(number: int, documents: Sequence[Document]) -> list[str]:
    """One of the paper's tables 1-3 and 6-8 with our rows, lines of Markdown."""
    rows = [row for row in paper.ROWS if row.table == number]
    columns = _columns(rows)
    lines = []
    for row in rows:
        theirs: dict[Column, float] = {}
        norms = list(row.attacked)
        for column in columns:
            cells = paper_column.counterparts(row, column.norm or norms[0])
            if column.figure in cells:
                theirs[column] = cells[column.figure].percent
        lines.append([row.method, "the paper's", "", *(_plain(theirs.get(c)) for c in columns)])
        lines += _ours(row, columns, documents)
    header = ["method", "whose", "images", *(column.title for column in columns)]
    return [f"## Table {number}: {_TITLES[number]}", "", *table(header, lines), ""]


def detection(documents: Sequence[Document]) -> list[str]:
    """Table 4b, cell by cell: natural, attacked on the standard way, half of each."""
    header = ["method", "whose, attack", "images"]
    kinds = ("natural", "attacked", "50/50")
    header += [
        f"{name}, {kind}" for name in ("verdict right", "raw", "corrected") for kind in kinds
    ]
    lines = []
    for row in paper.DETECTION:
        mixed = [f"{value:.1f}" for value in (row.rad, row.raw, row.corrected)]
        cells = [cell for value in mixed for cell in ("", "", value)]
        lines.append([row.method, "the paper's, CIFAR-10", "", *cells])
        ours = [one for one in documents if _is(one, row.method) and row.method != "pi"]
        for document in ours:
            lines += [
                [row.method, f"{_name(document)}, `{name}`", _count(document), *_cells(metrics)]
                for name, metrics in _measured(document)
            ]
        if not ours:
            lines.append([row.method, "ours: not run"] + [""] * (len(header) - 2))
    return ["## Table 4b: detection and correction", "", *table(header, lines), ""]


def ablations(documents: Sequence[Document]) -> Iterator[tuple[str, dict[str, dict[str, float]]]]:
    """Figure 2b: what was ablated, in words, and the figures by stage, in [0, 1].

    Only stages that were trained for the same number of steps and measured under the same attack
    stand together.
    """
    found: dict[tuple[object, ...], tuple[str, dict[str, dict[str, float]]]] = {}
    for stage, (method, weights) in STAGES.items():
        for document in documents:
            model = document["model"]
            if model["method"] != method or model["loss"] != weights:
                continue
            for name, metrics in _measured(document):
                words = (
                    f"{document['dataset']}, {_count(document)} images, {model['backbone']}, "
                    f"{model['step']} steps, seed {model['seed']}, `{name}`"
                )
                values = {
                    short: value
                    for short, figure in _ABLATED.items()
                    if (value := metrics[figure]) is not None
                }
                if len(values) == len(_ABLATED):
                    key = (*_circumstances(document), words)
                    found.setdefault(key, (words, {}))[1].setdefault(stage, values)
    for words, stages in found.values():
        if len(stages) > 1:
            yield words, stages


def ablation_table(stages: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Every stage of Figure 2b; those that are missing say so."""
    rows = []
    for stage in STAGES:
        values = stages.get(stage)
        cells = ["not run"] + [""] * (len(_ABLATED) - 1)
        rows.append([stage, *([_percent(values[name]) for name in _ABLATED] if values else cells)])
    return table(["terms", *_ABLATED], rows)


def _columns(rows: Sequence[paper.Row]) -> list[Column]:
    columns = []
    if rows[0].attacked_way == "own":
        columns = [Column(_LETTERS[way], f"accuracy_{way}_natural", None) for way in WAYS]
    norms = list(dict.fromkeys(norm for row in rows for norm in row.attacked))
    for norm in norms:
        head = f"{norm} " if len(norms) > 1 else "attacked "
        if rows[0].attacked_way == "own":
            for way in WAYS[1:]:
                figure = f"accuracy_{way}_under_{way}_attack"
                columns.append(Column(f"{head}{_LETTERS[way]}", figure, norm))
            columns.append(Column(f"{head}DIA", "dia_own_attacks", norm))
        else:
            for way in WAYS:
                figure = f"accuracy_{way}_under_standard_attack"
                columns.append(Column(f"{head}{_LETTERS[way]}", figure, norm))
            columns.append(Column(f"{head}DIA", "dia_standard_attack", norm))
    return columns


def _ours(
    row: paper.Row, columns: Sequence[Column], documents: Sequence[Document]
) -> list[list[str]]:
    lines = []
    for document in _alike(row, documents):
        by_norm = {norm: _results(document, row.data, norm) for norm in row.attacked}
        for group in zip_longest(*by_norm.values()):
            results = {norm: result for norm, result in zip(by_norm, group, strict=True) if result}
            attacks = ", ".join(f"`{result['attack']['name']}`" for result in results.values())
            cells = [_cell(document, results, column) for column in columns]
            whose = f"{_name(document)}, {attacks}"
            lines.append([row.method, whose, _count(document), *map(_percent, cells)])
    if not lines:
        lines.append([row.method, "ours: not run", ""] + [""] * len(columns))
    return lines


def _cell(
    document: Document, results: Mapping[paper.Norm, Document], column: Column
) -> float | None:
    if column.norm is None:
        return document["results"][0]["metrics"][column.figure]
    if column.norm not in results:
        return None
    metrics = results[column.norm]["metrics"]
    figure = column.figure
    if document["model"]["method"] in ("st", "at"):  # a one-way model is attacked by its own way
        for way in WAYS:
            figure = figure.replace(
                f"accuracy_{way}_under_standard_attack", f"accuracy_{way}_under_{way}_attack"
            )
    return metrics[figure]


def _alike(row: paper.Row, documents: Sequence[Document]) -> list[Document]:
    same = [
        one
        for one in documents
        if paper_column.is_data(one["dataset"], row.data)
        and one["model"]["backbone"] == row.backbone
    ]
    if row.method == "st+at":
        return list(_pairs(same))
    return [one for one in same if _is(one, row.method)]


def _is(document: Document, method: str) -> bool:
    model = document["model"]
    return bool(model["method"] == method and model["loss"] == PLAIN)


def _pairs(documents: Iterable[Document]) -> Iterator[Document]:
    """Two one-way models side by side, where both were asked about the same attacked images."""
    documents = list(documents)
    for at in (one for one in documents if _is(one, "at")):
        for st in (one for one in documents if _is(one, "st")):
            if _circumstances(at) != _circumstances(st):
                continue
            names = f"{at['model']['name']} + {st['model']['name']}"
            yield {**at, "model": {**at["model"], "name": names}, "results": _joined(at, st)}


def _circumstances(document: Document) -> tuple[object, ...]:
    """What two models must share to be compared: images, length of training and its attack."""
    model = document["model"]
    trained = tuple(model[key] for key in ("norm", "eps", "seed", "step"))
    return document["data"]["sha256"], document["seed"], *trained


def _joined(at: Document, st: Document) -> list[Document]:
    results: list[Document] = []
    for robust in at["results"]:
        for other in st["results"]:
            if (robust["attack"], robust["inputs"]) != (other["attack"], other["inputs"]):
                continue
            merged = {
                name: robust["metrics"][name]
                if robust["metrics"][name] is not None
                else other["metrics"][name]
                for name in NAMES
            }
            merged["dia_own_attacks"] = (
                merged["accuracy_robust_under_robust_attack"]
                - merged["accuracy_nonrobust_under_nonrobust_attack"]
            )
            results.append({**robust, "metrics": merged})
    return results


def _results(document: Document, data: paper.Data, norm: paper.Norm) -> list[Document]:
    """What can stand in the column of a norm, the attack that is likest the paper's first."""
    found: list[Document] = [
        result
        for result in document["results"]
        if result["inputs"] == "rounded"
        and paper_column.is_attack(data, norm, result["attack"]["norm"], result["attack"]["eps"])
    ]
    return sorted(found, key=lambda result: result["attack"]["norm"] != "l2_sign")


def _measured(document: Document) -> Iterator[tuple[str, Mapping[str, float | None]]]:
    for result in document["results"]:
        if result["inputs"] == "rounded":
            yield result["attack"]["name"], result["metrics"]


def _cells(metrics: Mapping[str, float | None]) -> list[str]:
    def value(name: str) -> float:
        found = metrics[name]
        if found is None:
            raise ValueError(f"{name} was not measured")
        return found

    return [
        _percent(share)
        for share in (
            1 - value("false_alarm_rate"),
            value("rad_all"),
            value("rad_mixture"),
            value("accuracy_standard_natural"),
            value("accuracy_standard_under_standard_attack"),
            value("accuracy_standard_mixture"),
            value("accuracy_corrected_natural"),
            value("accuracy_corrected_under_standard_attack"),
            value("accuracy_corrected_mixture"),
        )
    ]


def _name(document: Document) -> str:
    model = document["model"]
    trained = f"trained under {model['norm']} {model['eps']}"
    unfinished = model["step"] < model["steps"]
    if unfinished:
        trained += f", at step {model['step']} of {model['steps']}"
    return f"ours: {model['name']} on {document['dataset']}, {trained}"


def _count(document: Document) -> str:
    return str(document["n_images"])


def _percent(value: float | None) -> str:
    return _EMPTY if value is None else f"{100 * value:.1f}"


def _plain(value: float | None) -> str:
    return _EMPTY if value is None else f"{value:.1f}"
