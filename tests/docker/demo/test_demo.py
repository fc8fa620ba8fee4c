"""The demonstration against the real service, as a process that is told to stop."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from docker.demo.__main__ import main, told
from docker.demo.client import UNREACHABLE, Client
from docker.demo.traffic import Request, draw, load_samples

ROOT = Path(__file__).parents[3]
SAMPLES = load_samples(ROOT / "models", "mnist")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A service with the shipped models."""
    command = [sys.executable, "-m", "service.cli", "serve", "--port", "0", "--threads", "1"]
    with subprocess.Popen(
        [*command, "--models", str(ROOT / "models"), "--provider", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
            assert found
            yield found[0]
        finally:
            process.kill()


def test_natural_images_are_accepted_and_attacked_ones_are_not(url: str) -> None:
    client, random = Client(url), Random(0)
    seen: Counter[tuple[str, str]] = Counter()
    for _ in range(200):
        request = draw(random, SAMPLES, 0.3)
        seen.update(zip(request.kinds, client.send(request), strict=True))
    client.close()
    assert {outcome for kind, outcome in seen if kind == "natural"} == {"accept"}
    assert {outcome for kind, outcome in seen if kind == "attacked"} <= {"corrected", "reject"}
    assert {outcome for kind, outcome in seen if kind == "broken"} <= {"image-truncated"}
    assert {kind for kind, _ in seen} >= {"natural", "attacked"}


def test_a_problem_of_the_whole_request_is_every_images(url: str) -> None:
    client = Client(url)
    request = Request("/detect", "application/json", b"{", ("natural", "attacked"))
    assert client.send(request) == ["body-malformed"] * 2
    client.close()


def test_where_nobody_answers_it_goes_on(url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nowhere = taken.getsockname()[1]
    client = Client(f"http://127.0.0.1:{nowhere}")
    request = draw(Random(0), SAMPLES, 0.0)
    for _ in range(2):
        assert client.send(request) == [UNREACHABLE] * len(request.kinds)


@pytest.mark.parametrize("url", ["https://h", "h:80", "http://", "http://h/detect", "http://h:x"])
def test_what_is_no_service_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"of the form|invalid literal|could not be cast"):
        Client(url)


def test_told() -> None:
    tally = Counter({("natural", "accept"): 12, ("attacked", "reject"): 1})
    tally["attacked", "corrected"] = 2
    assert told(tally) == "12 natural: 12 accept; 3 attacked: 2 corrected, 1 reject"


def test_a_bad_beginning_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        assert main(["http://h", "--models", str(tmp_path)]) == 2
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert "no version of" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_reports_and_ends_when_told(url: str, number: signal.Signals) -> None:
    """As in its container: a package of its own, by the interpreter alone."""
    with subprocess.Popen(
        (sys.executable, "-S", "-m", "demo", url, "--rate", "200", "--report-s", "0.1"),
        cwd=ROOT / "docker",
        env={"PARALLAX_MODELS": str(ROOT / "models")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            process.send_signal(number)
            _, complaints = process.communicate(timeout=20)
        finally:
            process.kill()
    assert re.match(r"\d+ natural: \d+ accept", first)
    assert (process.returncode, complaints) == (0, "")
