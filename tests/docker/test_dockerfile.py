"""What can be said of the images without building one; docker/test builds them."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker" / "Dockerfile").read_text()


def stages() -> dict[str, str]:
    """Each stage by its name, as text from its FROM on."""
    parts = re.split(r"^(?=FROM )", TEXT, flags=re.MULTILINE)[1:]
    return {part.splitlines()[0].split()[-1]: part for part in parts}


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        (hadolint, "--failure-threshold", "style", ROOT / "docker" / "Dockerfile"),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_targets_and_the_default() -> None:
    names = list(stages())
    assert {"cpu", "gpu", "training"} <= set(names)
    assert names[-1] == "cpu"  # what is built where no target is named


def test_every_image_starts_from_the_same_base_and_only_copies() -> None:
    found = stages()
    bases = {part.split()[1] for name, part in found.items() if part.split()[1] not in found}
    assert bases == {"${PYTHON_IMAGE}"}
    for name in ("runtime", "serving", "cpu", "gpu", "training"):
        assert not re.search(r"^(RUN|ADD)\b", found[name], re.MULTILINE), name


def test_the_version_is_the_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert re.findall(r"^ARG VERSION=(\S+)$", TEXT, re.MULTILINE) == [project["version"]]


def test_what_is_copied_is_let_through() -> None:
    """Each source of a COPY is in the allow-list that .dockerignore is, and exists."""
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignore
    let = [line.removeprefix("!") for line in ignore if line.startswith("!")]
    copies = re.findall(r"^COPY (?!--from)(?:--chmod=\d+ )?(.+)$", TEXT, re.MULTILINE)
    sources = {word for words in copies for word in words.split()[:-1]}
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(Path(source).match(pattern) for pattern in let), source
