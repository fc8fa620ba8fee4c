"""A calibration as Markdown. Pure text from `calibration.json`; every table says whose images."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from training.checkpoint import short
from training.markdown import interval, percent, table
from training.score_choice import CLEAN, MIXED

_percent, _interval = (partial(form, absent="-") for form in (percent, interval))

_SCORES = {
    "disbelief": "disbelief: 1 - the robust way's probability of the non-robust way's label",
    "divergence": "divergence: Jensen-Shannon, of the robust and the non-robust way",
    "doubt": "doubt: from the robust way's margin",
    "head": "head: a small network over representations and logits",
}
_WAYS = {"standard": "standard way", "robust": "robust way", "nonrobust": "non-robust way"}
_CAPTIONS = {
    "promise": "False alarms promised and realised",
    "ways": "Accuracy by confidence of each way, before and after its temperature",
    "labels": "Accuracy by confidence of each kind of label",
}


def summary(document: Mapping[str, Any]) -> list[str]:
    """What came of it on the test images, in a few lines."""
    decision, test = document["decision"], document["test"]
    labels = document["labels"]["test"]["half attacked"]
    (plain, found), *_ = test["attacks"].items()
    kept = test["kept"].values()
    rate = decision["fpr"]
    switch, mixture = labels["label switch"], labels["mixture"]
    return [
        f"score {decision['score']}; false alarms inside the promised interval at "
        f"{sum(one['inside'] for one in kept)} of {len(kept)} rates",
        f"at {100 * float(rate):g} % false alarms flagged of successful attacks on the {plain}: "
        f"{_interval(found['flagged'][rate])} %",
        f"half attacked: mixture right {_percent(mixture['accuracy'])} %, label switch "
        f"{_percent(switch['accuracy'])} %; ECE {_error(mixture['ece'])} %, of the label switch "
        f"{_error(switch['ece'])} %, of the standard way {_error(labels['standard way']['ece'])} %",
    ]


def render(document: Mapping[str, Any], plots: Mapping[str, str]) -> str:
    """The whole of `calibration.md` from the whole of `calibration.json`; `plots` are links."""
    settings = document["settings"]
    splits = ", ".join(
        f"{split} {one['n_images']} `{one['sha256'][:12]}`"
        for split, one in document["splits"].items()
    )
    lines = [
        f"# {document['model']}, calibrated",
        "",
        f"- images: {document['dataset']}; {splits}",
        f"- weights `{document['weights_sha256'][:12]}`, trained against {document['norm']} "
        f"{document['eps']}",
        f"- attacked: {settings['count']} images of each split, drawn by seed {settings['seed']}, "
        f"rounded to 8 bits within eps; on the standard way {settings['attack']}, those who know "
        f"the detector {settings['steps']} steps of Auto-PGD from each start",
        f"- run: {document['created']}, code `{short(document['commit'])}`, torch "
        f"{document['torch']}, {document['seconds']:.0f} s",
        "",
        "Training images taught the detector head, validation images chose the score, calibration "
        "images set thresholds, temperatures and mixture. Test images were looked at last and "
        "changed nothing. Intervals are two-sided, 95 %.",
        "",
        "In short, on test images:",
        "",
        *(f"- {line}" for line in summary(document)),
        "",
        *_promise(document),
        *_picture(plots, "promise"),
        *_detection(document),
        *_ablation(document),
        *_temperatures(document),
        *_picture(plots, "ways"),
        *_mixture(document),
        *_picture(plots, "labels"),
    ]
    return "\n".join(lines)


def _promise(document: Mapping[str, Any]) -> list[str]:
    decision, test = document["decision"], document["test"]
    rows = []
    for rate, one in test["kept"].items():
        threshold = decision["thresholds"][rate]
        shown = f"{threshold['value']:.6g}"
        if by_class := threshold["per_class"]:
            shown = f"{min(by_class):.4g} to {max(by_class):.4g} by class"
        rows.append(
            [
                f"{100 * float(rate):g}",
                shown,
                _ends(one["promised"]),
                _ends(one["expected"]),
                _interval(one["realised"], 2),
                "yes" if one["inside"] else "no",
                _interval(test["corrupted"][rate]),
            ]
        )
    eq12, corrupted = test["natural"]["eq12"], test["corrupted"]["eq12"]
    rows.append(["Eq. 12", *[""] * 3, _interval(eq12, 2), "", _interval(corrupted)])
    header = [
        *("target, %", "threshold", "promised, %", "expected of these, %", "realised, %"),
        "inside the promise",
        "mildly corrupted, %",
    ]
    left_out = [f"No threshold at {rate}: {why}." for rate, why in document["left_out"].items()]
    return [
        "## False alarms",
        "",
        f"Thresholds of the score ({decision['score']}) from "
        f"{decision['calibration']['n_images']} clean calibration images; alarms on "
        f"{document['splits']['test']['n_images']} test images, and on the same ones under a "
        "corruption of severity 1 or 2, for which nothing is promised. The promised interval is of "
        "the rate among all such images, the expected one of the share of so many, which scatters "
        "about that rate once more.",
        "",
        *table(header, rows),
        "",
        *(part for line in left_out for part in (line, "")),
    ]


def _detection(document: Mapping[str, Any]) -> list[str]:
    attacks, rates = document["test"]["attacks"], list(document["decision"]["thresholds"])
    rows = [
        [
            name,
            f"{_percent(one['successful'])} of {one['n_images']}",
            _interval(one["flagged"]["eq12"]),
            *(_interval(one["flagged"][rate]) for rate in rates),
        ]
        for name, one in attacks.items()
    ]
    columns = [f"at {100 * float(rate):g} %" for rate in rates]
    return [
        "## Detection",
        "",
        "Test images. Successful attacks, where the standard way is wrong, and how many of these "
        "are flagged, in %: by Eq. 12 and by the score at the threshold of each rate. The first "
        "attack knows of no detector; the others do, and stronger ones may pass more.",
        "",
        *table(["attack", "successful", "Eq. 12", *columns], rows),
        "",
    ]


def _ablation(document: Mapping[str, Any]) -> list[str]:
    best, chosen = document["best_score"], document["decision"]["score"]
    other = "" if best == chosen else f"; {chosen} was asked for"
    lines = [
        "## Scores",
        "",
        f"Validation images, all of them; {MIXED}: beside each image the same one under a "
        "corruption of severity 1 or 2. Flagged of successful attacks, in %, where 1 % and 5 % of "
        "these very natural images are, and AUROC in %; passed is the share of all attacked images "
        "that the standard way gets wrong and the score does not flag. The score with the most at "
        "1 % against the first attack, corrupted images among the natural ones, is the default; "
        "the head only where its interval lies above the best simple score's. "
        f"That is {best}{other}. The other attacks ask more of a score: those on the ways know the "
        "three simple ones, the last knows the head and gives up images to pass it with the rest.",
        "",
        *(f"- {_SCORES[name]}" for name in document["scores"]),
        "",
    ]
    for which in (CLEAN, MIXED):
        first = next(iter(document["scores"].values()))[which]
        rows = [
            [
                attack,
                str(figures["n_images"]),
                name,
                _interval(figures["tpr_1"]),
                _interval(figures["tpr_5"]),
                _error(figures["auroc"]),
                _interval(figures["passed_1"]),
            ]
            for attack in first
            for name, by_natural in document["scores"].items()
            for figures in [by_natural[which][attack]]
        ]
        columns = ["attack", "successful", "score", "at 1 %", "at 5 %", "AUROC", "passed at 1 %"]
        lines += [f"### Natural images {which}", "", *table(columns, rows), ""]
    return lines


def _temperatures(document: Mapping[str, Any]) -> list[str]:
    fitted = document["decision"]["temperatures"]
    rows = [
        [
            f"{_WAYS[way]}, {which}",
            f"{fitted[way]:.3f}",
            *(
                _error(document["ece"][split][which][way][when])
                for split in ("calibration", "test")
                for when in ("before", "after")
            ),
        ]
        for which in ("natural", "attacked")
        for way in fitted
    ]
    header = [
        *("way, images", "temperature", "calibration, before", "after", "test, before", "after"),
    ]
    return [
        "## Temperatures",
        "",
        "Fitted by likelihood on the natural calibration images. ECE in 15 bins, in %; attacked "
        "is by PGD on the standard way, where a temperature that was fitted on natural images "
        "has nothing to promise.",
        "",
        *table(header, rows),
        "",
    ]


def _mixture(document: Mapping[str, Any]) -> list[str]:
    mixture, search = document["decision"]["mixture"], document["settings"]["search"]
    lines = [
        "## Calibrated probability",
        "",
        f"The robust way's share {mixture['weight']:g}, its normalised logits times "
        f"{mixture['scale']:g} to the power {mixture['power']:g}: of a grid the best accuracy on "
        "natural and attacked calibration images, half of each, where the natural accuracy is at "
        f"most {100 * search['loses']:g} points below the standard way's; among those within "
        f"{100 * search['equal']:g} points of the best the least log loss. The standard way and "
        "the label switch (section 3.3 of the paper) have their softmax as it is, the tempered "
        "switch and the mixture the temperatures above. Right and ECE, in %; half attacked is the "
        "attacked images and the same ones before.",
        "",
    ]
    for split in ("calibration", "test"):
        figures = document["labels"][split]
        rows = [
            [
                name,
                *(
                    cell
                    for which in figures
                    for cell in (
                        _interval(figures[which][name]["accuracy"]),
                        _error(figures[which][name]["ece"]),
                    )
                ),
            ]
            for name in next(iter(figures.values()))
        ]
        columns = [cell for which in figures for cell in (f"{which}, right", "ECE")]
        lines += [f"### On {split} images", "", *table(["label", *columns], rows), ""]
    attacks = document["test"]["attacks"]
    names = list(next(iter(attacks.values()))["right"])
    rows = [
        [attack, *(_interval(one["right"][name]) for name in names)]
        for attack, one in attacks.items()
    ]
    return [
        *lines,
        "### Under each attack, test images",
        "",
        *table(["right, %", *names], rows),
        "",
    ]


def _picture(plots: Mapping[str, str], name: str) -> list[str]:
    return [f"![{_CAPTIONS[name]}, test images]({plots[name]})", ""]


def _ends(interval: Sequence[float] | None) -> str:
    if interval is None:
        return "-"
    return f"{100 * interval[0]:.2f} to {100 * interval[1]:.2f}"


def _error(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"
