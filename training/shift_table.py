"""Corrupted natural images as Markdown: false alarms and accuracy. Pure text from `shift.json`."""

from collections.abc import Mapping, Sequence
from typing import Any

from training.checkpoint import short
from training.markdown import interval, percent, table

_ACCURACIES = {
    "accuracy_standard": "standard way right",
    "accuracy_robust": "robust way right",
    "accuracy_nonrobust": "non-robust way right",
    "accuracy_corrected": "corrected label right",
}
_MEAN = "mean over corruptions"


def line(name: str, results: Sequence[Mapping[str, Any]]) -> str:
    """One corruption in a line, for a console."""
    parts = [
        f"{words} {' '.join(percent(result['figures'][figure]) for result in results)}"
        for figure, words in (
            ("false_alarm_rate", "false alarms"),
            ("accuracy_standard", "standard way right"),
        )
    ]
    return f"{name}, severity 1 to {len(results)}, in %: " + "; ".join(parts)


def render(document: Mapping[str, Any], plot: str, samples: str) -> str:
    """The whole of `shift.md` from the whole of `shift.json`; `plot` and `samples` are links."""
    settings, calibration = document["settings"], document["calibration"]
    count, available = document["n_images"], document["available"]
    some = f"{count} of {available} images, drawn by seed {settings['seed']}"
    thresholds = " and ".join(
        f"{percent} % is {limit:.4f}" for percent, limit in document["thresholds"].items()
    )
    lines = [
        f"# {document['model']} on corrupted natural images",
        "",
        f"- images: {document['dataset']}, {document['split']} split, "
        + (f"all {count} images" if count == available else some)
        + f", `{document['data_sha256'][:12]}`; weights `{document['weights_sha256'][:12]}`, "
        f"trained against {document['norm']} {document['eps']}",
        f"- score: its threshold for {thresholds}, from {calibration['n_images']} clean "
        f"calibration images, `{calibration['sha256'][:12]}`",
        f"- run: {document['created']}, seed {settings['seed']}, code "
        f"`{short(document['commit'])}`, torch {document['torch']}, {document['seconds']:.0f} s",
        "",
        "Nobody attacked these images, so every alarm is a false one. They are rounded to 8 bits. "
        "The corruptions are in the style of CIFAR-10-C and MNIST-C and are not those data sets; "
        "their strengths were set by eye, before any model saw them.",
        "",
        *(f"{name} is absent: {reason}.\n" for name, reason in document["absent"].items()),
        f"![Three images under every corruption]({samples})",
        "",
        f"![False alarms by corruption and severity, and accuracy by severity]({plot})",
        "",
        "## By severity",
        "",
        "Means over the corruptions, in %, with the two-sided 95 % interval; 0 is the clean "
        "images. A mean's interval is that of a single share of as many images, which is never "
        "too narrow.",
        "",
        *_by_severity(document),
        "",
        "## By corruption",
        "",
    ]
    for figure, words in _figures(document).items():
        lines += [f"### {words[0].upper()}{words[1:]}", "", *_by_corruption(document, figure), ""]
    return "\n".join(lines)


def _figures(document: Mapping[str, Any]) -> dict[str, str]:
    """Each figure in words, in the order of the report."""
    alarms = {
        f"alarm_rate_{percent}": f"score above its {percent} % threshold"
        for percent in document["thresholds"]
    }
    return {"false_alarm_rate": "flagged by Eq. 12", **alarms, **_ACCURACIES}


def _by_severity(document: Mapping[str, Any]) -> list[str]:
    figures = _figures(document)
    rows = [
        [str(severity), *(interval(shares[figure]) for figure in figures)]
        for severity, shares in [
            (0, document["natural"]),
            *((mean["severity"], mean["figures"]) for mean in document["means"]),
        ]
    ]
    return table(["severity", *figures.values()], rows)


def _by_corruption(document: Mapping[str, Any], figure: str) -> list[str]:
    severities = [mean["severity"] for mean in document["means"]]
    shares = {
        (result["corruption"], result["severity"]): result["figures"][figure]
        for result in document["results"]
    }
    rows = [
        [name, *(interval(shares[name, severity]) for severity in severities)]
        for name in document["settings"]["corruptions"]
    ]
    rows.append([_MEAN, *(interval(mean["figures"][figure]) for mean in document["means"])])
    return table(["severity", *map(str, severities)], rows)
