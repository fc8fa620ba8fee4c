"""A container as it should be run, waited for and listened to."""

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from docker.test.engine import Engine

_NAME = "parallax-under-test"
CONFINED = (
    *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    *("--tmpfs", "/tmp:size=16m", "--pids-limit", "64"),
)


@dataclass(frozen=True, slots=True)
class Container:
    """One that was started under `_NAME`, which is free again after the test."""

    engine: Engine

    @property
    def state(self) -> Any:
        return self.engine.inspect(_NAME)["State"]

    @property
    def url(self) -> str:
        return f"http://{self.engine('port', _NAME, '8080').splitlines()[0]}"

    def wait_until_healthy(self, within_s: float = 60.0) -> None:
        ends = time.monotonic() + within_s
        while (health := self.state["Health"])["Status"] != "healthy":
            assert time.monotonic() < ends, (health, self.log())
            assert self.state["Running"], self.log()
            time.sleep(0.2)  # the engine tells nobody when it changes

    def log(self) -> str:
        """Standard output, then standard error."""
        command = (self.engine.docker, "logs", _NAME)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout + done.stderr

    def stop(self, grace_s: int = 40) -> Any:
        """As `docker stop` does; the state it ended in."""
        self.engine("stop", "--time", str(grace_s), _NAME)
        return self.state

    def python(self, code: str) -> str:
        """What the container's own interpreter prints."""
        return self.engine("exec", _NAME, "python", "-c", code).strip()


@contextmanager
def running(engine: Engine, image: str, *flags: str) -> Iterator[Container]:
    """A container of the image, without privileges and with a port on this machine."""
    engine("run", "--detach", "--name", _NAME, "--publish", "127.0.0.1::8080", *flags, image)
    try:
        yield Container(engine)
    finally:
        engine("rm", "--force", "--volumes", _NAME)


def ask(url: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """Status and body; with a body a POST of a PNG."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
        sent["Content-Type"] = "image/png"
    request = urllib.request.Request(url, body, sent)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
