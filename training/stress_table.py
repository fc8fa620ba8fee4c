"""A stress test as Markdown: who gets what past which policy. Pure text from `stress.json`."""

from collections.abc import Mapping
from typing import Any

from training.checkpoint import short
from training.markdown import table
from training.outcomes import POLICIES

_KINDS = ("correct", "fooled", "rejected")


def line(result: Mapping[str, Any]) -> str:
    """One eps in a line, for a console."""
    parts = [
        f"{policy} {_percent(result['worst'][policy]['fooled'])} fooled" for policy in POLICIES
    ]
    robust = _percent(result["robust_accuracy"])
    return f"eps {result['eps']}, in %: robust way {robust} right; " + ", ".join(parts)


def render(document: Mapping[str, Any]) -> str:
    """The whole of `stress.md` from the whole of `stress.json`."""
    settings, alarm = document["settings"], document["alarm"]
    lines = [
        f"# {document['model']} under attackers who know the detector",
        "",
        f"- images: {document['dataset']}, {document['split']} split, {document['n_images']} drawn "
        f"by seed {settings['seed']}; weights `{document['weights_sha256'][:12]}`, trained against "
        f"{document['norm']} {document['eps']}",
        f"- attacks: APGD, {settings['steps']} steps, {settings['targets']} target classes, "
        f"{settings['restarts']} random start(s) and one from an attack on the robust way alone; "
        "images not rounded",
        f"- run: {document['created']}, code `{short(document['commit'])}`, torch "
        f"{document['torch']}, {document['seconds']:.0f} s",
        "",
        *(f"- policy *{policy}*: {words}" for policy, words in POLICIES.items()),
        "",
        "An image is fooled where any of the attacks gets a wrong label past the policy, else "
        "rejected where any gets it held back. In %, with the two-sided 95 % interval:",
        "",
        *_worst(document),
        "",
        "Strict agreement passes a wrong label only where the robust way is wrong too, whatever "
        "the attack. What was found is the least that an attacker can do; a stronger attack may "
        "do more.",
        "",
        f"An attacker who only wants alarms gets {_percent(alarm['flagged'])} % of the natural "
        f"images flagged at eps {alarm['eps']}.",
        "",
        *_alone(document),
        "## Checks of the attack",
        "",
        *(
            f"- {'passed' if check['passed'] else '**FAILED**'}: {check['name']} "
            f"({100 * check['value']:.1f} %)"
            for check in document["checks"]
        ),
        "",
    ]
    return "\n".join(lines)


def _worst(document: Mapping[str, Any]) -> list[str]:
    header = ["eps", "robust way right"]
    header += [f"{policy}: {kind}" for policy in POLICIES for kind in _KINDS]
    natural = [document["natural"][policy][kind] for policy in POLICIES for kind in _KINDS]
    rows = [["0", "", *map(_percent, natural)]]
    for result in document["results"]:
        shares = [result["worst"][policy][kind] for policy in POLICIES for kind in _KINDS]
        rows.append([result["eps"], _interval(result["robust_accuracy"]), *map(_interval, shares)])
    return table(header, rows)


def _alone(document: Mapping[str, Any]) -> list[str]:
    lines = []
    for result in document["results"]:
        rows = [
            [name, *(_percent(policies[policy]["fooled"]) for policy in POLICIES)]
            for name, policies in result["attacks"].items()
        ]
        header = ["attack on", *(f"{policy}: fooled" for policy in POLICIES)]
        lines += [f"## Each attack alone, eps {result['eps']}", "", *table(header, rows), ""]
    return lines


def _percent(share: Mapping[str, Any]) -> str:
    return f"{100 * share['value']:.1f}"


def _interval(share: Mapping[str, Any]) -> str:
    low, high = share["interval"]
    return f"{_percent(share)} ({100 * low:.1f} to {100 * high:.1f})"
