"""Load on a server from a process of its own: wrk where it is on PATH, else the asyncio generator.

A closed loop: each client has one kept-alive connection and sends when it was answered. Knows
neither what is sent nor who answers.
"""

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = Path(__file__).with_name("wrk.lua")


class LoadError(RuntimeError):
    """The generator failed, or the server broke connections off."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What the clients saw. `requests` counts all answers, `refused` those of status 400 and up."""

    generator: str
    requests: int
    refused: int
    seconds: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    generator_cpu_s: float

    @property
    def answered(self) -> int:
        return self.requests - self.refused


def parse(output: str, cpu_s: float = 0.0) -> Load:
    """The JSON object in the last line of a generator's output.

    Raises:
        LoadError: there is none, nothing was answered, or connections broke.
    """
    try:
        found = json.loads(output.rstrip().rpartition("\n")[2])
        load = Load(
            generator=found["generator"],
            requests=int(found["requests"]),
            refused=int(found["refused"]),
            seconds=found["duration"] / 1e6,
            p50_ms=found["p50"] / 1e3,
            p95_ms=found["p95"] / 1e3,
            p99_ms=found["p99"] / 1e3,
            generator_cpu_s=cpu_s,
        )
        broken = int(found["broken"])
    except (ValueError, KeyError, TypeError) as error:
        raise LoadError(f"the generator said {output[-500:]!r}") from error
    if broken or not load.requests:
        raise LoadError(f"{load.requests} answers, {broken} broken connections")
    return load


def generator() -> str:
    """The one that will be used."""
    return "wrk" if shutil.which("wrk") else "asyncio"


def generate(port: int, requests: Sequence[Path], clients: int, seconds: float) -> Load:
    """Send the requests in turn for so long, in whole seconds where wrk does it.

    Raises:
        LoadError: as `parse`, or the generator could not be run.
    """
    if wrk := shutil.which("wrk"):
        duration = f"{max(1, round(seconds))}s"
        command = [wrk, "-t1", f"-c{clients}", f"-d{duration}", "--timeout", "30s"]
        command += ["-s", str(_SCRIPT), f"http://127.0.0.1:{port}/", "--"]
    else:
        command = [sys.executable, "-m", "tests.bench.asyncio_load", str(port), str(clients)]
        command += [str(seconds)]
    before = _children_cpu_s()  # nothing but the generator is waited for meanwhile
    done = subprocess.run([*command, *map(str, requests)], capture_output=True, text=True)
    if done.returncode:
        raise LoadError(f"{command[0]} failed: {done.stderr[-500:]}")
    return parse(done.stdout, _children_cpu_s() - before)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
