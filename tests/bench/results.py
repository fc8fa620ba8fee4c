"""All that one run measured, as a document that can be kept and read back.

Rows of every round are kept, so that the spread can be seen; figures are their medians.
"""

import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import TypeAdapter

from tests.bench.rows import Row, medians


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where it was measured. `load` is the load average before the first row."""

    cpu: str
    cpus: int
    memory_gib: float
    system: str
    python: str
    load: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How it was measured."""

    generator: str
    seconds: int
    rounds: int
    model: str
    quick: bool


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Of a server after its rows, warm. Memory counts pages that its processes share once."""

    server: str
    model: str
    processes: int  # that were asked for
    seen: int  # that there are, helpers too
    ready_s: float  # from spawning the first until it is ready
    memory_mib: float


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A variant of a server's settings, and what it answers at 32 clients."""

    server: str
    processes: int
    variant: dict[str, str]
    requests_s: float


@dataclass(frozen=True, kw_only=True)
class Soak:
    """Resident memory of our one process over many requests of all kinds, in MiB."""

    requests: int
    warm_requests: int
    warm_mib: float
    end_mib: float
    peak_mib: float

    @property
    def growth(self) -> float:
        """From warm to the end, as a share of warm."""
        return self.end_mib / self.warm_mib - 1


@dataclass(frozen=True, kw_only=True)
class Results:
    machine: Machine
    plan: Plan
    versions: dict[str, dict[str, str]]  # packages of each server's environment
    trials: list[Trial]
    rounds: list[Row]
    usages: list[Usage]
    soak: Soak | None

    @property
    def rows(self) -> list[Row]:
        """The medians."""
        return medians(self.rounds)

    def rates(self, row: Row) -> list[float]:
        """Requests/s of a row in each round, sorted."""
        return sorted(one.requests_s for one in self.rounds if one.place == row.place)

    def chosen(self, server: str, processes: int = 1) -> Trial | None:
        """The best trial."""
        tried = [t for t in self.trials if (t.server, t.processes) == (server, processes)]
        return max(tried, key=lambda trial: trial.requests_s, default=None)

    def usage(self, server: str, model: str, processes: int) -> Usage | None:
        """Medians over the rounds; None where the server was not measured."""
        wanted = (server, model, processes)
        same = [u for u in self.usages if (u.server, u.model, u.processes) == wanted]
        if not same:
            return None
        return Usage(
            server=server,
            model=model,
            processes=processes,
            seen=max(one.seen for one in same),
            ready_s=median(one.ready_s for one in same),
            memory_mib=median(one.memory_mib for one in same),
        )

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def read(document: Any) -> Results:
    """What `plain` gave.

    Raises:
        ValidationError: it is something else.
    """
    return TypeAdapter(Results).validate_python(document)


def this_machine() -> Machine:
    """The one that this runs on."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")]
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return Machine(
        cpu=names[0] if names else platform.machine(),
        cpus=len(os.sched_getaffinity(0)),
        memory_gib=round(pages * size / 2**30, 1),
        system=f"Linux {platform.release().partition('-')[0]}",
        python=platform.python_version(),
        load=round(os.getloadavg()[0], 2),
    )
