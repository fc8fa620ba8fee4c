"""docs/performance.md from the results of a run: every figure in it, and how to repeat them."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench import plot, table
from tests.bench.contestants import BARE, HEAVY
from tests.bench.results import Results, read
from training import markdown
from training.files import write_report
from training.plots import style

PLOT = "images/performance.svg"
STEM = "performance"
_QUICK = "**The short form:** one round, and settings of peers that were not tried out first."


def report(results: Results) -> str:
    """The whole document."""
    return "\n".join(_lines(results)) + "\n"


def write(results: Results, folder: Path) -> None:
    """Document, results and plot.

    Raises:
        OutputError: the folder cannot be written to.
    """
    style.save(plot.figure(results), folder / PLOT)
    write_report(folder, STEM, results.plain(), report(results))


def _lines(results: Results) -> Iterator[str]:
    machine, plan = results.machine, results.plan
    yield from (
        "# Performance",
        "",
        f"One run of `make bench-serve` on {machine.cpus} CPUs of {machine.cpu}, "
        f"{machine.memory_gib:.0f} GiB, {machine.system}, Python {machine.python}, which the load "
        f"generator ({plan.generator}) shares. The load average before the first row was "
        f"{machine.load:.2f}. Every figure here is made from [{STEM}.json]({STEM}.json); on "
        "another machine the ratios will be near these and the figures will not. To repeat it:",
        "",
        "```sh",
        'make bench-serve ARGS="--out docs"',
        "```",
        "",
        *((_QUICK, "") if plan.quick else ()),
        "## Targets",
        "",
        *markdown.table(table.TARGETS, table.target_rows(results)),
        "",
    )
    if results.soak is not None:
        soak = results.soak
        yield (
            f"Memory is the resident set of one process: {soak.warm_mib:.1f} MiB after "
            f"{soak.warm_requests:,} requests of all kinds, {soak.end_mib:.1f} MiB after "
            f"{soak.requests:,}, at most {soak.peak_mib:.1f} MiB."
        )
        yield ""
    yield from (
        f"![Requests/s and 99th percentile of the latency by number of clients]({PLOT})",
        "",
        f"## {plan.model}",
        "",
        "A closed loop: each client has one connection and sends when it was answered. Images are "
        "the samples of the model in turn. Every server gets the same ONNX file and answers with "
        "the standard way's label, checked before anything is measured. CPU seconds are those of "
        "the server with all its processes, by the kernel's count; the generator's stand apart. "
        f"Each row is the median of {_rounds(plan.rounds)} of {plan.seconds} s; every second round "
        "runs backwards.",
        "",
        *_rows(results, table_rows(results, "mnist")),
        "",
        f"The rows of {BARE} are its runs without a server: a request is a batch, and a client a "
        "thread of Python that calls it. One client has a thread of the runtime for each CPU, "
        "and that is what the service is held against; several have one each.",
        "",
        f"## A compute-bound model: {HEAVY}",
        "",
        "Two PreAct-ResNet18 for 3x32x32 with random weights, exported as any model is.",
        "",
        *_rows(results, table_rows(results, HEAVY)),
        "",
        "## Start and memory",
        "",
        "From spawning the first process until it says that it is ready; memory after its rows, "
        "each page that processes share counted once.",
        "",
        *markdown.table(table.USAGES, table.usages(results)),
        "",
        "## The peers",
        "",
        "Each has a virtual environment of its own, made from pinned requirements in "
        "`tests/bench/peers`, where its code is too. Access logs are off. The variants below were "
        "tried at 32 clients, and the best of each was measured.",
        "",
        *markdown.table(
            ("server", "variant", "requests/s"),
            [
                [
                    table.name(one.server, one.processes),
                    ", ".join(f"{key} {value}" for key, value in one.variant.items()),
                    f"{one.requests_s:,.0f}" + (" (best)" if one == best else ""),
                ]
                for one in results.trials
                for best in [results.chosen(one.server, one.processes)]
            ],
        ),
        "",
        *markdown.table(
            ("environment", "versions"),
            [
                [server, ", ".join(f"{package} {version}" for package, version in found.items())]
                for server, found in results.versions.items()
            ],
        ),
    )


def table_rows(results: Results, model: str) -> list[list[str]]:
    """Cells of a model's rows, with the spread of requests/s over the rounds behind them."""
    return [
        [*table.row(row), "" if row.note else _spread(results.rates(row))]
        for row in results.rows
        if row.model == model
    ]


def _rows(results: Results, cells: Sequence[Sequence[str]]) -> list[str]:
    return markdown.table((*table.ROWS, "requests/s of the rounds"), cells)


def _spread(rates: Sequence[float]) -> str:
    return f"{table.rate(rates[0])} to {table.rate(rates[-1])}"


def _rounds(count: int) -> str:
    return "one round" if count == 1 else f"{count} rounds"


def main() -> None:
    """`python -m tests.bench.report DIR`: document and plot anew from the results there."""
    folder = Path(sys.argv[1])
    write(read(json.loads((folder / f"{STEM}.json").read_text())), folder)


if __name__ == "__main__":
    main()
