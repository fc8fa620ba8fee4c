"""An int8 network beside its float32 one, as Markdown. Pure text from `int8.json`."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from training.checkpoint import short
from training.int8_figures import AGREEMENT, FLOAT32, INT8, LOST, MORE_ALARMS, faults
from training.markdown import interval, percent, table

_percent, _interval = (partial(form, digits=2, absent="-") for form in (percent, interval))

_WAYS = {
    "standard": "standard way",
    "robust": "robust way",
    "nonrobust": "non-robust way",
    "flag": "Eq. 12's verdict",
}
_FIGURES = {
    "accuracy_standard_natural": "standard way right, natural",
    "accuracy_robust_natural": "robust way right, natural",
    "accuracy_nonrobust_natural": "non-robust way right, natural",
    "accuracy_corrected_natural": "corrected label right, natural",
    "false_alarm_rate": "false alarms: natural images flagged by Eq. 12",
    "accuracy_standard_under_standard_attack": "standard way right, attacked",
    "accuracy_robust_under_standard_attack": "robust way right, attacked",
    "accuracy_nonrobust_under_standard_attack": "non-robust way right, attacked",
    "accuracy_corrected_under_standard_attack": "corrected label right, attacked",
    "rad_successful": "successful attacks flagged by Eq. 12",
    "rad_all": "all attacks flagged by Eq. 12",
    "auroc_successful": "AUROC of disbelief, successful attacks",
    "auroc_all": "AUROC of disbelief, all attacks",
}


def summary(document: Mapping[str, Any]) -> list[str]:
    """What came of it, in a few lines."""
    natural = document["agreement"]["natural"]
    found = faults(document)
    return [
        "labels as in float32 on natural images, in %: "
        + ", ".join(f"{words} {_percent(natural[way])}" for way, words in _WAYS.items()),
        *(
            f"batch {one['batch']}: {one[INT8]:.0f} images/s, {one[INT8] / one[FLOAT32]:.2f} times "
            f"float32's {one[FLOAT32]:.0f}"
            for one in document["speed"]
        ),
        *(f"NOT TO BE SHIPPED: {fault}" for fault in found),
        *(["near enough to ship"] if not found else []),
    ]


def render(document: Mapping[str, Any]) -> str:
    """The whole of `int8.md` from the whole of `int8.json`."""
    natural, attacked, ranges = (document[part] for part in ("natural", "attacked", "ranges"))
    settings, size = document["settings"], document["size"]
    lines = [
        f"# {document['model']}, int8 beside float32",
        "",
        f"- images: {document['dataset']}, {document['split']} split, {natural['n_images']} as "
        f"they are, `{natural['sha256'][:12]}`; {attacked['n_images']} attacked, drawn by seed "
        f"{settings['seed']}, with {document['results'][0]['attack']['name']} on the standard way "
        "of the float32 network, rounded to 8 bits within eps",
        f"- weights `{document['weights_sha256'][:12]}`, trained against {document['norm']} "
        f"{document['eps']}; network `{document['network_sha256'][:12]}`, {_size(size[INT8])} "
        f"instead of {_size(size[FLOAT32])}",
        f"- int8: {', '.join(settings['operators'])}, weights by channel in 7 bits, activations by "
        f"their range on {ranges['n_images']} validation images, `{ranges['sha256'][:12]}`; the "
        "rest in float32",
        f"- run: {document['created']}, code `{short(document['commit'])}`, ONNX Runtime "
        f"{document['onnxruntime']}, {document['seconds']:.0f} s",
        "",
        "In short:",
        "",
        *(f"- {line}" for line in summary(document)),
        "",
        f"`export --int8` ships it where the labels of each way agree on {100 * AGREEMENT:g} % of "
        f"the natural images, where Eq. 12 flags at most {100 * MORE_ALARMS:g} points more of "
        f"them, where no more than {100 * LOST:g} points are lost of the successful attacks that "
        "are flagged and of the areas under the curve, and where it is faster. Shares have their "
        "two-sided 95 % interval; an attack is successful where the standard way of the network "
        "that is asked is wrong. An attacker of the int8 network itself has not been tried.",
        "",
        *_agreement(document["agreement"]),
        *_figures(document["figures"]),
        *_score(document),
        *_speed(document["speed"]),
    ]
    return "\n".join(lines)


def _agreement(found: Mapping[str, Any]) -> list[str]:
    rows = [
        [words, _interval(found["natural"][way]), _interval(found["attacked"][way])]
        for way, words in _WAYS.items()
    ]
    return [
        "## Labels",
        "",
        "Images on which both networks say the same, in %:",
        "",
        *table(["of", "natural", "attacked"], rows),
        "",
    ]


def _figures(found: Mapping[str, Any]) -> list[str]:
    rows = [
        [
            words,
            *(
                _interval(found[side][name])
                if found[side][name]["interval"]
                else _percent(found[side][name])
                for side in (FLOAT32, INT8)
            ),
        ]
        for name, words in _FIGURES.items()
    ]
    return [
        "## Figures",
        "",
        "In %:",
        "",
        *table(["figure", "float32", "int8"], rows),
        "",
    ]


def _score(document: Mapping[str, Any]) -> list[str]:
    score = document["score"]
    if score is None:
        return ["The model was not calibrated, so there is no threshold to compare.", ""]
    thresholds = document["decision"]["thresholds"]
    rows = [
        [
            f"{100 * float(rate):g}",
            _value(thresholds[rate]),
            _ends(one["promised"]),
            *(
                _interval(score[side]["natural"][rate]) if rate in score[side]["natural"] else "-"
                for side in (FLOAT32, INT8)
            ),
            *(
                _interval(score[side]["successful"][rate])
                if rate in score[side]["successful"]
                else "-"
                for side in (FLOAT32, INT8)
            ),
        ]
        for rate, one in score["kept"].items()
    ]
    header = [
        *("target, %", "threshold", "promised"),
        *("false alarms, float32", "int8"),
        *("successful attacks flagged, float32", "int8"),
    ]
    areas = " and ".join(
        f"{100 * score[side]['auroc']['value']:.2f} % in {side}"
        for side in (FLOAT32, INT8)
        if score[side]["auroc"]["value"] is not None
    )
    return [
        "## Score",
        "",
        f"The score {score['name']}, each network with thresholds of its own: those of int8, which "
        "are shown, were fitted on the calibration images as the int8 network sees them. In %; "
        f"area under the curve, successful attacks: {areas or '-'}.",
        "",
        *table(header, rows),
        "",
    ]


def _speed(speed: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [
        [
            str(one["batch"]),
            f"{one[FLOAT32]:.0f}",
            f"{one[INT8]:.0f}",
            f"{one[INT8] / one[FLOAT32]:.2f}",
        ]
        for one in speed
    ]
    return [
        "## Speed",
        "",
        "Images/s of one thread by its CPU time, the median of rounds in which the networks take "
        "turns; nothing but the network runs.",
        "",
        *table(["batch", "float32", "int8", "times"], rows),
        "",
    ]


def _value(threshold: Mapping[str, Any]) -> str:
    values = threshold["per_class"] or [threshold["value"]]
    low, high = min(values), max(values)
    return f"{low:.6g}" if low == high else f"{low:.4g} to {high:.4g} by class"


def _ends(pair: Sequence[float]) -> str:
    return f"{100 * pair[0]:.2f} to {100 * pair[1]:.2f}"


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
