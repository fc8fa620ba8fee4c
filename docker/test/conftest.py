"""An engine, the images that ours are built on, and ours, once for all tests.

    make test-docker                          the CPU's image
    make test-docker IMAGES="cpu gpu training"   and those that take gigabytes

Needs root and the network. Where an image cannot be pulled, a stand-in takes its name.
"""

import configparser
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml

from docker.test.engine import BUILD_S, Engine, engine
from docker.test.stand_ins import present

ROOT = Path(__file__).parents[2]
TARGETS = tuple(os.environ.get("IMAGES", "cpu").split())


@pytest.fixture(scope="session", name="engine")
def the_engine() -> Engine:
    return engine()


@pytest.fixture(scope="session")
def absent(engine: Engine) -> Iterator[list[str]]:
    """Every image that the Dockerfile and the compose file name is there, but for these."""
    text = (ROOT / "docker" / "Dockerfile").read_text()
    base = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", text, re.MULTILINE)
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"].values()
    others = [service["image"] for service in services if "build" not in service]
    foreign = [image for image in others if not image.startswith("parallax-detect:")]
    with present(engine, [*base, *foreign]) as missing:
        yield missing


@pytest.fixture(scope="session", params=TARGETS)
def target(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def cpu_image(engine: Engine, absent: list[str]) -> str:
    return build(engine, "cpu")


def build(engine: Engine, target: str) -> str:
    """The image of a target, named as in the compose file."""
    name = f"parallax-detect:{target}"
    with TemporaryDirectory() as folder:
        secrets = _index_of_this_machine(Path(folder))
        engine(
            *("build", "--file", str(ROOT / "docker" / "Dockerfile"), "--target", target),
            *("--tag", name, *secrets, str(ROOT)),
            timeout=BUILD_S,
        )
    return name


def _index_of_this_machine(folder: Path) -> list[str]:
    """Flags that that let a build reach the package index as pip does here; none of it stays."""
    said = subprocess.run(
        (sys.executable, "-m", "pip", "config", "list"), capture_output=True, text=True, check=True
    ).stdout
    options = configparser.ConfigParser(interpolation=None)
    options["global"] = {"timeout": "180"}
    for name in ("index-url", "extra-index-url", "proxy", "trusted-host"):
        found = re.findall(rf"^(?:global|:env:)\.{name}='(.*)'$", said, re.MULTILINE)
        reachable = [url for url in " ".join(found[-1:]).split() if not url.startswith("file:")]
        if reachable:
            options["global"][name] = " ".join(reachable)
    with (folder / "pip.conf").open("w") as file:
        options.write(file)
    flags = ["--secret", f"id=pip.conf,src={folder / 'pip.conf'}"]
    authorities = ssl.get_default_verify_paths().cafile
    if authorities is not None:
        flags += ["--secret", f"id=ca.crt,src={authorities}"]
    proxies = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")  # which every build knows, and forgets
    return flags + [
        flag for name in proxies if name in os.environ for flag in ("--build-arg", name)
    ]
