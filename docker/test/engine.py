"""The Docker engine of this machine, by its command line. Knows nothing of Parallax."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

BUILD_S = 1800  # a first build fetches everything
CALL_S = 120


@dataclass(frozen=True, slots=True)
class Engine:
    """A client that can build with BuildKit, and how compose is called here."""

    docker: str
    compose: tuple[str, ...]

    def __call__(self, *arguments: str, timeout: float = CALL_S, stdin: bytes = b"") -> str:
        """What the command printed.

        Raises:
            AssertionError: it failed; says what it printed.
        """
        return run((self.docker, *arguments), timeout, stdin)

    def inspect(self, thing: str) -> Any:
        """All that is known of an image or a container; None where there is none."""
        done = subprocess.run((self.docker, "inspect", thing), capture_output=True, timeout=CALL_S)
        return json.loads(done.stdout)[0] if done.returncode == 0 else None

    def pulled(self, image: str) -> bool:
        """Whether the image is here, or can be brought."""
        if self.inspect(image) is not None:
            return True
        done = subprocess.run((self.docker, "pull", image), capture_output=True, timeout=600)
        return done.returncode == 0


@cache
def engine() -> Engine:
    """
    Raises:
        AssertionError: there is none; says what to install.
    """
    clients = [client for client in _on_path("docker") if _can_build(client)]
    assert clients, "no docker client here that builds with BuildKit: docker-buildx is missing"
    client = clients[0]
    if _works(client, "compose", "version"):
        compose: tuple[str, ...] = (client, "compose")
    else:
        found = shutil.which("docker-compose")
        assert found, "no docker compose here, neither as a plugin nor as docker-compose"
        compose = (found,)
    run((client, "info"), CALL_S)  # says why, where the daemon does not answer
    return Engine(client, compose)


def run(
    command: Sequence[str],
    timeout: float,
    stdin: bytes = b"",
    environment: dict[str, str] | None = None,
) -> str:
    """Standard output of a command; its standard error is in the complaint where it fails."""
    done = subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        timeout=timeout,
        env={**os.environ, "DOCKER_BUILDKIT": "1", **(environment or {})},
    )
    said = done.stdout.decode() + done.stderr.decode()
    assert done.returncode == 0, f"{' '.join(command[:4])} ... failed:\n{said[-6000:]}"
    return done.stdout.decode()


def _on_path(name: str) -> list[str]:
    folders = os.environ.get("PATH", "").split(os.pathsep)
    return [str(file) for folder in folders if os.access(file := Path(folder) / name, os.X_OK)]


def _can_build(client: str) -> bool:
    """BuildKit was part of the client up to version 20.10, and is a plugin since 23."""
    if _works(client, "buildx", "version"):
        return True
    said = subprocess.run((client, "--version"), capture_output=True, timeout=CALL_S)
    return b"version 20.10." in said.stdout


def _works(*command: str) -> bool:
    done = subprocess.run(command, capture_output=True, timeout=CALL_S)
    return done.returncode == 0
