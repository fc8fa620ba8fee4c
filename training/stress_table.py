"""A stress test as Markdown: who gets what past which policy. Pure text from `stress.json`."""

from collections.abc import Iterable, Mapping
from typing import Any

from training.checkpoint import short
from training.markdown import interval, percent, table

_KINDS = ("correct", "fooled", "rejected")


def line(result: Mapping[str, Any]) -> str:
    """One eps in a line, for a console."""
    fooled = ", ".join(
        f"{policy} {percent(found['fooled'])}" for policy, found in result["worst"].items()
    )
    robust = percent(result["robust_accuracy"])
    return f"eps {result['eps']}, in %: robust way {robust} right; fooled: {fooled}"


def render(document: Mapping[str, Any]) -> str:
    """The whole of `stress.md` from the whole of `stress.json`."""
    alarm = document["alarm"]
    lines = [
        f"# {document['model']} under attackers who know the detector",
        "",
        *_provenance(document),
        "",
        *_policies(document),
        "",
        "## What gets through",
        "",
        "Wrong labels past each policy, where the attacker has the choice of all attacks for each "
        "image, in % with the two-sided 95 % interval. *Robust way right* is its accuracy under "
        "the same choice. Eps 0 is no attack.",
        "",
        *_headline(document),
        "",
        "Strict agreement passes a wrong label only where the robust way is wrong too, whatever "
        "the attack. What was found is the least that an attacker can do; a stronger attack may "
        "do more. Under score 1% and score 5% this is the attack's success, SR@1 and SR@5.",
        "",
        "![Fooled, held back and correct by eps](stress.svg)",
        "",
        f"An attacker who only wants alarms gets {percent(alarm['flagged'])} % of the natural "
        f"images flagged by Eq. 12 at eps {alarm['eps']}.",
        "",
        "## Correct, fooled, held back",
        "",
        "An image is fooled where any attack gets a wrong label past the policy, else rejected "
        "where any gets it held back. *With detection* is robust accuracy with detection, "
        "1 - fooled: an image that is held back counts for the defence, a natural one too. "
        "*Sound* counts it only where the natural image is accepted.",
        "",
        *_triples(document),
        "",
        "## An attack that does not know of the detector",
        "",
        "Flagged images under the attack on the standard way alone: of those that made it wrong, "
        "and of all. AUROC is the score's, against the natural images of the same draw.",
        "",
        *_oblivious(document),
        "",
        *_autoattack(document),
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


def _provenance(document: Mapping[str, Any]) -> list[str]:
    settings = document["settings"]
    attacks = len(document["results"][0]["attacks"])
    return [
        f"- images: {document['dataset']}, {document['split']} split, {document['n_images']} drawn "
        f"by seed {settings['seed']}; weights `{document['weights_sha256'][:12]}`, trained against "
        f"{document['norm']} {document['eps']}",
        f"- attacks: {attacks}, ours of {settings['steps']} steps or more; those for agreement on "
        f"{settings['targets']} target classes, each from {settings['restarts']} random start(s) "
        "and from an attack on the robust way alone; images not rounded",
        f"- thresholds of the score: natural images of the calibration split, "
        f"{document['n_calibration']}",
        f"- run: {document['created']}, code `{short(document['commit'])}`, torch "
        f"{document['torch']}, {document['seconds']:.0f} s",
    ]


def _policies(document: Mapping[str, Any]) -> list[str]:
    natural = document["natural"]
    rows = [
        [
            policy["name"],
            "" if policy["threshold"] is None else f"{policy['threshold']:.3g}",
            interval(natural[policy["name"]]["false_alarms"]),
        ]
        for policy in document["policies"]
    ]
    words = [f"- policy *{policy['name']}*: {policy['words']}" for policy in document["policies"]]
    return [*words, "", *table(["policy", "threshold", "natural images flagged"], rows)]


def _headline(document: Mapping[str, Any]) -> list[str]:
    natural = document["natural"]
    rows = [["0", "", *(percent(found["fooled"]) for found in natural.values())]]
    for result in document["results"]:
        fooled = [interval(found["fooled"]) for found in result["worst"].values()]
        rows.append([result["eps"], interval(result["robust_accuracy"]), *fooled])
    return table(["eps", "robust way right", *natural], rows)


def _triples(document: Mapping[str, Any]) -> list[str]:
    rows = [
        ["0", policy, *(interval(found[kind]) for kind in _KINDS), "", ""]
        for policy, found in document["natural"].items()
    ]
    for result in document["results"]:
        for policy, found in result["worst"].items():
            shares = [interval(found[kind]) for kind in (*_KINDS, "unfooled", "sound")]
            rows.append([result["eps"], policy, *shares])
    return table(["eps", "policy", *_KINDS, "with detection", "sound"], rows)


def _oblivious(document: Mapping[str, Any]) -> list[str]:
    rows = []
    for result in document["results"]:
        found = result["oblivious"]
        for part in ("successful", "all"):
            auroc = found["auroc"][part]
            rows.append(
                [
                    result["eps"],
                    part,
                    percent(found["succeeded"]) if part == "successful" else "100.0",
                    *(percent(flagged[part]) for flagged in found["flagged"].values()),
                    "" if auroc is None else f"{100 * auroc:.2f}",
                ]
            )
    header = ["eps", "of", "share", *document["natural"], "AUROC"]
    return table(header, rows)


def _autoattack(document: Mapping[str, Any]) -> Iterable[str]:
    found = [
        (result["eps"], result["autoattack"])
        for result in document["results"]
        if result["autoattack"] is not None
    ]
    if not found:
        return
    yield "## AutoAttack"
    yield ""
    yield (
        f"The standard version of its authors' package on {found[0][1]['n_images']} of the images; "
        "the accuracy of the way that is attacked, in %. What it found is in the worst case above."
    )
    yield ""
    ways = [way for way in found[0][1] if way != "n_images"]
    rows = [[eps, *(interval(auto[way]["accuracy"]) for way in ways)] for eps, auto in found]
    yield from table(["eps", *(f"{way} way" for way in ways)], rows)
    yield ""
    for eps, auto in found:
        for way in ways:
            for warning in auto[way]["warnings"]:
                yield f"- it warns at eps {eps}, {way} way: {warning}"
                yield ""


def _alone(document: Mapping[str, Any]) -> list[str]:
    lines = []
    for result in document["results"]:
        rows = [
            [name, *(percent(shares["fooled"]) for shares in policies.values())]
            for name, policies in result["attacks"].items()
        ]
        noise = result["noise"].values()
        rows.append(["(random noise, not an attack)", *(percent(one["fooled"]) for one in noise)])
        lines += [
            f"## Fooled by each attack alone, eps {result['eps']}",
            "",
            *table(["attack on", *result["worst"]], rows),
            "",
        ]
    return lines
