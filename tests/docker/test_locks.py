"""The lock files hold what pyproject.toml asks for, by hash, and name no place to get it from."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {"cpu": ("cpu",), "gpu": ("gpu",), "training": ("cpu", "train")}
LOCKS = ("build", *EXTRAS)


def locked(name: str) -> dict[str, Version]:
    lines = (DOCKER / f"requirements-{name}.txt").read_text().splitlines()
    pins = [re.match(r"(\S+)==(\S+) \\$", line) for line in lines]
    return {canonicalize_name(pin[1]): Version(pin[2]) for pin in pins if pin}


@pytest.mark.parametrize("name", EXTRAS)
def test_every_requirement_is_locked_to_a_version_that_fits(name: str) -> None:
    optional = PROJECT["optional-dependencies"]
    asked = [
        *PROJECT["dependencies"],
        *(line for extra in EXTRAS[name] for line in optional[extra]),
    ]
    pins = locked(name)
    for requirement in map(Requirement, asked):
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement.name} is not locked: make lock"
        assert requirement.specifier.contains(pin), f"{requirement} is locked to {pin}: make lock"


def test_what_builds_is_locked_too() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    given = (DOCKER / "requirements-build.in").read_text().splitlines()
    assert [line for line in given if not line.startswith("#")] == build
    assert locked("build").keys() == {Requirement(line).name for line in build}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_is_versions_and_hashes_alone(name: str) -> None:
    text = (DOCKER / f"requirements-{name}.txt").read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    pins = [line for line in lines if not line.startswith(" ")]
    assert pins
    for line in pins:
        assert re.fullmatch(r"[a-z0-9._-]+==[\w.!]+ \\", line), line
    for line in lines:
        assert line in pins or re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line), line
    assert "://" not in text


def test_the_serving_locks_hold_no_torch() -> None:
    for name in ("cpu", "gpu"):
        assert not {"torch", "torchvision", "onnx"} & locked(name).keys()
    assert not [name for name in locked("cpu") if name.startswith("nvidia")]
