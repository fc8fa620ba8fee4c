"""Records as lines: every one can be read back, and none is anybody else's."""

import json
import logging
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.log_sink import LogSink
from service.logs import CURRENT_ID, Style, hold_standard_streams, logging_to, style_of, timestamp
from tests.service.serving import ROOT

HOSTILE = (
    'plain "quoted" \\ text',
    "line\nbreak\r\n2025-01-02T03:04:05.678Z error   service: forged",
    '"}\n{"level":"error","message":"forged"}',
    "\x1b[2J\x1b]0;owned\x07\x9b31m\x00",
    "\u2028\u2029\x85\x0b\x0c\x1c",
    "\u202egnp.exe\ufeff",
    "\ud800 \udcff",
    "café 猫 🦉",
)

Lines = Callable[[], list[str]]


@contextmanager
def logging_alone(descriptor: int, *, level: str, style: Style) -> Iterator[LogSink]:
    """Without the handlers of the test runner, which fails where ours must not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.getLogger(), "handlers", [])
        with logging_to(descriptor, level=level, style=style) as sink:
            yield sink


@pytest.fixture
def target(tmp_path: Path) -> Iterator[tuple[int, Lines]]:
    """A descriptor to log to, and what was written to it, by the strictest idea of a line."""
    file = tmp_path / "log"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
    yield descriptor, lambda: file.read_text("utf-8").splitlines()
    os.close(descriptor)


def logged(target: tuple[int, Lines], style: Style, *messages: str) -> list[str]:
    os.ftruncate(target[0], 0)
    os.lseek(target[0], 0, os.SEEK_SET)
    with logging_alone(target[0], level="info", style=style):
        for message in messages:
            logging.getLogger("service.test").error("%s", message)
    return target[1]()


def test_json_has_everything(target: tuple[int, Lines]) -> None:
    with logging_alone(target[0], level="info", style="json"):
        token = CURRENT_ID.set(b"abc")
        logging.getLogger("service.test").warning("%d %s", 3, "mice")
        CURRENT_ID.reset(token)
        logging.getLogger("service.test").debug("not this")
        logging.getLogger("service.test").info("without")
    first, second = map(json.loads, target[1]())
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("time"))
    assert first == {
        "level": "warning",
        "logger": "service.test",
        "message": "3 mice",
        "request_id": "abc",
        "pid": os.getpid(),
    }
    assert (second["message"], "request_id" in second) == ("without", False)


def test_pretty_is_a_sentence(target: tuple[int, Lines]) -> None:
    with logging_alone(target[0], level="info", style="pretty"):
        token = CURRENT_ID.set(b"abc")
        logging.getLogger("service.test").warning("three mice")
        CURRENT_ID.reset(token)
    (line,) = target[1]()
    assert re.fullmatch(r"\S+Z warning service\.test: three mice id=abc", line)


def test_hostile_text_stays_in_its_json_line(target: tuple[int, Lines]) -> None:
    lines = logged(target, "json", *HOSTILE)
    assert [json.loads(line)["message"] for line in lines] == list(HOSTILE)
    assert all(line.isascii() and line.isprintable() for line in lines)


def test_hostile_text_stays_in_its_pretty_line(target: tuple[int, Lines]) -> None:
    lines = logged(target, "pretty", *HOSTILE)
    assert len(lines) == len(HOSTILE)
    assert all(line.isprintable() for line in lines)
    assert "café 猫 🦉" in lines[-1]  # what can be read is


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # it is emptied each time
@given(st.lists(st.text(), min_size=1, max_size=5))
def test_any_text_is_one_line(target: tuple[int, Lines], messages: list[str]) -> None:
    lines = logged(target, "json", *messages)
    assert [json.loads(line)["message"] for line in lines] == messages
    lines = logged(target, "pretty", *messages)
    assert len(lines) == len(messages)
    assert all(re.match(r"\S+Z error   service\.test:", line) for line in lines)


@pytest.mark.parametrize("style", ["json", "pretty"])
def test_a_traceback_forges_nothing(target: tuple[int, Lines], style: Style) -> None:
    with logging_alone(target[0], level="info", style=style):
        try:
            raise ValueError("bad\n2025-01-02T03:04:05.678Z error   service: forged")
        except ValueError:
            logging.getLogger("service.test").exception("failed")
    lines = target[1]()
    if style == "json":
        (line,) = lines
        assert "ValueError: bad\n2025" in json.loads(line)["traceback"]
    else:
        assert " failed" in lines[0]
        assert all(line.startswith("    | ") for line in lines[1:])
        assert len(lines) > 3


def test_long_text_is_cut(target: tuple[int, Lines]) -> None:
    (line,) = logged(target, "json", "x" * 1_000_000)
    assert 10_000 < len(line) < 20_000


def test_a_record_that_cannot_be_formatted_is_lost_alone(target: tuple[int, Lines]) -> None:
    class Unprintable:
        def __str__(self) -> str:
            raise RuntimeError("no")

    with logging_alone(target[0], level="info", style="json") as sink:
        logging.getLogger("service.test").error("%d", "not a number")
        logging.getLogger("service.test").error("%s", Unprintable())
        logging.getLogger("service.test").error("%s", "good")
        assert sink.dropped == 2
    assert len(target[1]()) == 1


def test_warnings_are_logged(target: tuple[int, Lines]) -> None:
    with logging_alone(target[0], level="info", style="json"), warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old\nnews", DeprecationWarning, stacklevel=1)
    (line,) = target[1]()
    assert "DeprecationWarning: old" in json.loads(line)["message"]


def test_logging_is_left_as_it_was(target: tuple[int, Lines]) -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers), warnings.showwarning)
    with pytest.raises(KeyError), logging_to(target[0], level="debug", style="json"):
        raise KeyError
    assert (root.level, list(root.handlers), warnings.showwarning) == before


@pytest.mark.parametrize(
    ("asked", "terminal", "style"),
    [
        ("auto", True, "pretty"),
        ("auto", False, "json"),
        ("json", True, "json"),
        ("pretty", False, "pretty"),
    ],
)
def test_a_terminal_is_talked_to_prettily(asked: Any, terminal: bool, style: Style) -> None:
    ends = os.openpty() if terminal else os.pipe()
    assert style_of(asked, ends[1]) == style
    for end in ends:
        os.close(end)


def test_a_closed_descriptor_is_no_terminal() -> None:
    assert style_of("auto", 12345) == "json"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1735787045.6789, "2025-01-02T03:04:05.678Z"),
        (1735787045.9999, "2025-01-02T03:04:05.999Z"),
    ],
)
def test_time_is_utc(seconds: float, text: str) -> None:
    assert timestamp(seconds) == text


def test_closed_standard_streams_are_held() -> None:
    """So that no socket becomes what a library takes for its standard error."""
    code = (
        "import os, socket, sys; from service.logs import hold_standard_streams;"
        "hold_standard_streams(); low = socket.socket().fileno();"
        "names = [os.readlink(f'/proc/self/fd/{n}') for n in (0, 2)];"
        "print(low > 2, names, os.get_inheritable(2))"
    )
    command = [sys.executable, "-c", code]
    shell = ["sh", "-c", 'exec "$@" <&- 2>&-', "sh", *command]
    told = subprocess.run(shell, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert told == "True ['/dev/null', '/dev/null'] True\n"


def test_open_standard_streams_are_left_alone() -> None:
    before = [os.fstat(descriptor) for descriptor in range(3)]
    hold_standard_streams()
    assert [os.fstat(descriptor) for descriptor in range(3)] == before
