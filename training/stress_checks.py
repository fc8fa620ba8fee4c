"""Signs that a stress test flatters the model: each a sentence, a figure, and passed or failed.

An attack that breaks nothing is first suspected of being weak (Carlini et al. 2019, Tramer et al.
2020). Pure, from the whole of `stress.json`; knows no attack and runs none.
"""

import math
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from training.config import parse_eps

_TOLERATED = 0.05  # of the images, that a stronger attack gets through
_NOISE = 0.02  # of the images, by which chance may turn an order round
# Tramer (2022): who detects at eps could classify at eps / 2. No ResNet-18 trained without extra
# data is known to keep more than about this share at 4/255.
_CREDIBLE = 0.70
_CREDIBLE_EPS = 8 / 255


def checks(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Name, value and whether it passed, of each check that fits the data and the eps."""
    measured = document["measured"]
    found = [
        _check(
            f"with eps {measured['unbounded_eps']} every image gets through every policy",
            measured["unbounded"],
            measured["unbounded"] == 1.0,
        ),
        _at_most(
            "twice the steps get at most one image in twenty more through any policy",
            measured["gain_of_twice_the_steps"],
            _TOLERATED,
        ),
    ]
    for result in document["results"]:
        found += _of_one_eps(result)
    found += _order(document)
    found += _limits(document)
    return found


def _of_one_eps(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    eps, fooled = result["eps"], result["worst"]["strict"]["fooled"]["value"]
    # Who can turn the robust way should be able to drag the fragile ones along.
    yield _at_most(
        f"at eps {eps} at most one image in twenty turns the robust way alone",
        result["bound"] - fooled,
        _TOLERATED,
    )
    yield _at_most(
        f"at eps {eps} random noise fools no policy where the attacks do not, beyond chance",
        max(noise["alone"] for noise in result["noise"].values()),
        _NOISE,
    )


def _order(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for near, far in pairwise(document["results"]):
        drops = [
            near["worst"][policy]["fooled"]["value"] - far["worst"][policy]["fooled"]["value"]
            for policy in near["worst"]
        ]
        yield _at_most(
            f"eps {far['eps']} fools no policy less often than eps {near['eps']}, beyond chance",
            max(drops),
            _NOISE,
        )


def _limits(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if document["norm"] != "linf" or not re.match(r"CIFAR-10\b", document["dataset"]):
        return
    for result in document["results"]:
        if math.isclose(parse_eps(result["eps"]), _CREDIBLE_EPS):
            yield _at_most(
                f"at eps {result['eps']} no policy is sound on more than {_CREDIBLE:.0%} of the "
                "images, about what a ResNet-18 keeps at half the eps (Tramer 2022)",
                max(found["sound"]["value"] for found in result["worst"].values()),
                _CREDIBLE,
            )


def _at_most(name: str, value: float, limit: float) -> dict[str, Any]:
    return _check(name, value, value <= limit)


def _check(name: str, value: float, passed: bool) -> dict[str, Any]:
    return {"name": name, "value": value, "passed": passed}
