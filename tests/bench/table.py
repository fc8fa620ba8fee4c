"""Rows, usages and targets as cells of text, for terminal and document alike."""

from tests.bench.results import Results, Usage
from tests.bench.rows import Row
from tests.bench.targets import targets

ROWS = (
    "server",
    "request",
    "clients",
    "requests/s",
    "images/s",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "CPU s",
    "client CPU s",
    "CPU us/image",
)
USAGES = ("server", "model", "processes", "ready s", "memory MiB")
TARGETS = ("target", "wanted", "measured", "met")


def name(server: str, processes: int) -> str:
    """How a server is called where there are several forms of it."""
    return server if processes == 1 else f"{server}, {processes} workers"


def rate(figure: float) -> str:
    """With a decimal where it is small."""
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.1f}"


def row(of: Row) -> list[str]:
    """Cells under `ROWS`; a note stands instead of figures."""
    about = [name(of.server, of.processes), of.kind, str(of.clients)]
    if of.note:
        return [*about, of.note, *[""] * (len(ROWS) - len(about) - 1)]
    rates = [rate(of.requests_s), rate(of.images_s)]
    latencies = [f"{value:.2f}" for value in (of.p50_ms, of.p95_ms, of.p99_ms)]
    times = [f"{of.server_cpu_s:.2f}", f"{of.generator_cpu_s:.2f}", f"{of.cpu_us:,.0f}"]
    return [*about, *rates, *latencies, *times]


def usage(of: Usage) -> list[str]:
    """Cells under `USAGES`."""
    server = name(of.server, of.processes)
    return [server, of.model, str(of.seen), f"{of.ready_s:.2f}", f"{of.memory_mib:.0f}"]


def usages(results: Results) -> list[list[str]]:
    """One a server, medians."""
    places = dict.fromkeys((u.server, u.model, u.processes) for u in results.usages)
    found = [results.usage(*place) for place in places]
    return [usage(one) for one in found if one is not None]


def target_rows(results: Results) -> list[list[str]]:
    """Cells under `TARGETS`."""
    return [one.cells for one in targets(results)]
