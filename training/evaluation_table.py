"""An evaluation as Markdown: what was measured, on what, beside what the paper prints.

Pure text from the plain values of `evaluation.json`. The paper's figures stand in a column of their
own, each with its table, only where the paper has this data, backbone, method and kind of attack
and all test images were measured;
they enter nothing else.
"""

import re
from collections.abc import Mapping
from typing import Any

from training import paper_column
from training.attacks.setting import parse
from training.checkpoint import short
from training.figures import NAMES
from training.markdown import table
from training.paper_column import Cells
from training.predict import WAYS

_READABLE = {
    "false_alarm_rate": "false alarms: natural images flagged by Eq. 12",
    "dia_own_attacks": "DIA, each way under the attack on itself",
    "dia_standard_attack": "DIA, both under the attack on the standard way",
    "rad_successful": "RAD, successful attacks on the standard way",
    "rad_all": "RAD, all attacks on the standard way",
    "rad_mixture": "RAD, right verdicts on a 50/50 mixture",
    "flagged_robust_attack": "flagged, all attacks on the robust way",
    "flagged_nonrobust_attack": "flagged, all attacks on the non-robust way",
    "accuracy_robust_successful": "robust way, successful attacks on the standard way",
    "accuracy_standard_mixture": "standard way, 50/50 mixture",
    "accuracy_corrected_mixture": "corrected label, 50/50 mixture",
    "auroc_successful": "AUROC of the score, successful attacks",
    "auroc_all": "AUROC of the score, all attacks",
}
ANSWERING = {
    "standard": "standard way",
    "robust": "robust way",
    "nonrobust": "non-robust way",
    "corrected": "corrected label",
}
_EMPTY = "–"  # noqa: RUF001  # an en dash, as tables have it

Metrics = Mapping[str, float | None]


def render(document: Mapping[str, Any], plots: Mapping[str, str] | None = None) -> str:
    """The whole of `evaluation.md` from the whole of `evaluation.json`.

    `plots` are files beside it, by what each shows.
    """
    model, data = document["model"], document["data"]
    count, available = document["n_images"], data["available"]
    some = f"{count} of {available} images, drawn by seed {document['seed']}"
    lines = [
        f"# {model['name']} on {document['dataset']}",
        "",
        f"- model: {model['method']}, {model['backbone']}, trained against {model['norm']} "
        f"{model['eps']}, step {model['step']} of {model['steps']}, "
        f"weights `{document['weights_sha256'][:12]}`",
        f"- images: {document['split']} split, "
        + (f"all {count} images" if count == available else some)
        + f", `{data['sha256'][:12]}`",
        f"- run: {document['created']}, seed {document['seed']}, "
        f"code `{short(document['commit'])}`, torch {document['torch']}, "
        f"{document['device']}, {document['seconds']:.0f} s",
        "",
        *(f"{note}\n" for note in document["notes"]),
    ]
    results = document["results"]
    for rounded, exact in zip(results[::2], results[1::2], strict=True):
        lines += _section(document, rounded, exact)
    if plots:
        lines += ["## Plots", "", "Of attacked images rounded to 8 bits.", ""]
        lines += [f"![{caption}]({file})\n" for caption, file in plots.items()]
    return "\n".join(lines)


def summary(document: Mapping[str, Any]) -> list[str]:
    """One line an attack, for a console: accuracy by way, natural and under its own attack."""
    lines = []
    for result in document["results"][::2]:
        metrics = result["metrics"]
        parts = [
            f"{ANSWERING[way]} {_percent(metrics[f'accuracy_{way}_natural'])} natural, "
            f"{_percent(metrics[f'accuracy_{way}_under_{way}_attack'])} attacked"
            for way in WAYS
            if metrics[f"accuracy_{way}_natural"] is not None
        ]
        if metrics["rad_all"] is not None:
            parts.append(f"false alarms {_percent(metrics['false_alarm_rate'])}")
            parts.append(f"successful attacks flagged {_percent(metrics['rad_successful'])}")
        lines.append(f"{result['attack']['name']}, 8-bit, in %: " + "; ".join(parts))
    return lines


def heading(attack: str) -> str:
    """An attack's name in words."""
    setting = parse(attack)
    return f"{setting.norm} {setting.eps}, {setting.steps} steps of {setting.step_size}"


def _section(
    document: Mapping[str, Any], rounded: Mapping[str, Any], exact: Mapping[str, Any]
) -> list[str]:
    name = rounded["attack"]["name"]
    setting = parse(name)
    model = document["model"]
    cells: Cells = {}
    if document["split"] == "test" and document["n_images"] == document["data"]["available"]:
        cells = paper_column.cells(
            document["dataset"], model["backbone"], model["method"], setting.norm, setting.eps
        )
    about = paper_column.about(document["dataset"], setting.norm, setting.eps) if cells else ""
    return [
        f"## {heading(name)}",
        "",
        "Accuracy in %, attacked images rounded to 8 bits:",
        "",
        *_matrix(rounded["metrics"]),
        "",
        "All figures in %, with the two-sided 95 % interval of a share:",
        "",
        *_figures(rounded, exact, cells),
        "",
        *_absences(rounded),
        *([f"{about}\n"] if about else []),
    ]


def _matrix(metrics: Metrics) -> list[str]:
    """Who answers (columns) under the attack on whom (rows), and Eq. 12's flags."""
    ways = [way for way in WAYS if metrics[f"accuracy_{way}_natural"] is not None]
    three = len(ways) == len(WAYS)
    answering = [*ways, *(["corrected"] if three else [])]
    header = [ANSWERING[name] for name in answering] + (["flagged"] if three else [])
    rows = [["natural"] + [_percent(metrics[f"accuracy_{name}_natural"]) for name in answering]]
    flagged = ["false_alarm_rate"]
    for way in ways:
        cells = [_percent(metrics[f"accuracy_{name}_under_{way}_attack"]) for name in answering]
        rows.append([f"attack on the {ANSWERING[way]}", *cells])
        flagged.append("rad_all" if way == "standard" else f"flagged_{way}_attack")
    if three:
        rows = [[*row, _percent(metrics[name])] for row, name in zip(rows, flagged, strict=True)]
    return table(["images", *header], rows)


def _figures(rounded: Mapping[str, Any], exact: Mapping[str, Any], cells: Cells) -> list[str]:
    header = ["figure", "8-bit", "95 %", "float", *(["the paper's"] if cells else [])]
    rows = []
    for name in NAMES:
        both = [result["metrics"][name] for result in (rounded, exact)]
        if both == [None, None]:
            continue
        show = _number if name.startswith("threshold") else _percent
        row = [_readable(name), show(both[0]), _interval(rounded, name), show(both[1])]
        if cells:
            row.append(f"{cells[name].percent:.1f} ({cells[name].table})" if name in cells else "")
        rows.append(row)
    return table(header, rows)


def _absences(result: Mapping[str, Any]) -> list[str]:
    """Each reason once, with the figures that are missing for it."""
    reasons: dict[str, list[str]] = {}
    for name, reason in result["absent"].items():
        reasons.setdefault(reason, []).append(f"`{name}`")
    return [f"Not measured, {reason}: {', '.join(names)}.\n" for reason, names in reasons.items()]


def _readable(name: str) -> str:
    if name in _READABLE:
        return _READABLE[name]
    if match := re.fullmatch(r"accuracy_(\w+)_natural", name):
        return f"{ANSWERING[match[1]]}, natural"
    if match := re.fullmatch(r"accuracy_(\w+)_under_(\w+)_attack", name):
        return f"{ANSWERING[match[1]]}, attack on the {ANSWERING[match[2]]}"
    if match := re.fullmatch(r"ece_(\w+)_natural", name):
        return f"ECE, {ANSWERING[match[1]]}, natural"
    if match := re.fullmatch(r"ece_(\w+)_under_(\w+)_attack", name):
        return f"ECE, {ANSWERING[match[1]]}, attack on the {ANSWERING[match[2]]}"
    if match := re.fullmatch(r"tpr_at_fpr_(\d+)_(\w+)", name):
        return f"TPR of the score at {match[1]} % FPR, {match[2]} attacks"
    percent = name.removeprefix("threshold_at_fpr_")
    return f"threshold of the score at {percent} % FPR, in [0, 1]"


def _percent(value: float | None) -> str:
    return _EMPTY if value is None else f"{100 * value:.2f}"


def _number(value: float | None) -> str:
    return _EMPTY if value is None else f"{value:.4f}"


def _interval(result: Mapping[str, Any], name: str) -> str:
    if name not in result["intervals"]:
        return ""
    low, high = result["intervals"][name]
    return f"{100 * low:.2f} to {100 * high:.2f}"
