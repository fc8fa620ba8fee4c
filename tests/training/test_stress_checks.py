"""Each check of a stress test passes on a sound one and fails on what it is there to find."""

from typing import Any

import pytest

from training.stress_checks import checks

POLICIES = ("reject", "strict")


def share(value: float) -> dict[str, Any]:
    return {"value": value, "interval": [value, value]}


def result(eps: str, fooled: float) -> dict[str, Any]:
    return {
        "eps": eps,
        "worst": {
            policy: {"fooled": share(fooled), "sound": share(1 - fooled)} for policy in POLICIES
        },
        "bound": fooled,
        "noise": {policy: {"fooled": share(0.0), "alone": 0.0} for policy in POLICIES},
    }


def document(dataset: str = "CIFAR-10", norm: str = "linf") -> dict[str, Any]:
    return {
        "dataset": dataset,
        "norm": norm,
        "measured": {
            "unbounded_eps": "1",
            "unbounded": 1.0,
            "gain_of_twice_the_steps": 0.0,
        },
        "results": [result("4/255", 0.2), result("8/255", 0.5)],
    }


def failed(found: dict[str, Any]) -> list[str]:
    return [check["name"] for check in checks(found) if not check["passed"]]


def test_a_sound_test_passes() -> None:
    assert failed(document()) == []
    assert len(checks(document())) == 2 + 2 * 2 + 1 + 1


def weaken(found: dict[str, Any], *path: Any, value: float) -> dict[str, Any]:
    *way, last = path
    part = found
    for key in way:
        part = part[key]
    part[last] = value
    return found


FAR = ("results", 1)


@pytest.mark.parametrize(
    ("path", "value", "name"),
    [
        (("measured", "unbounded"), 0.98, "with eps 1 every image"),
        (("measured", "gain_of_twice_the_steps"), 0.06, "twice the steps"),
        ((*FAR, "bound"), 0.56, "at eps 8/255 at most one image in twenty turns"),
        ((*FAR, "noise", "reject", "alone"), 0.03, "at eps 8/255 random noise"),
        (("results", 0, "worst", "reject", "fooled", "value"), 0.6, "eps 8/255 fools no policy"),
        ((*FAR, "worst", "reject", "sound", "value"), 0.71, "at eps 8/255 no policy is sound"),
    ],
)
def test_fails_on_what_it_is_there_to_find(path: tuple[Any, ...], value: float, name: str) -> None:
    (found,) = failed(weaken(document(), *path, value=value))
    assert found.startswith(name)


@pytest.mark.parametrize("dataset", ["CIFAR-10", "CIFAR-10 (JPEG)"])
def test_the_known_limit_holds_for_its_data(dataset: str) -> None:
    too_good = weaken(document(dataset), *FAR, "worst", "reject", "sound", "value", value=0.9)
    assert len(failed(too_good)) == 1


@pytest.mark.parametrize(
    ("dataset", "norm"), [("CIFAR-100", "linf"), ("MNIST", "linf"), ("CIFAR-10", "l2")]
)
def test_and_for_no_other(dataset: str, norm: str) -> None:
    too_good = weaken(document(dataset, norm), *FAR, "worst", "reject", "sound", "value", value=0.9)
    assert failed(too_good) == []
