"""The service beside bare ONNX Runtime and four other servers: one machine, one client, one run.

`make bench-serve` installs what is needed; each peer has an environment of its own. Rows are
measured in rounds, every second one backwards, and each figure is the median of its rounds.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench import contestants, environments, measurement, rivals
from tests.bench.contestants import CLIENTS, Contestant
from tests.bench.measurement import ROOT, Resources
from tests.bench.rows import Row, medians

_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_FRAMEWORKS = {
    "litserve": rivals.litserve,
    "bentoml": rivals.bentoml,
    "mlserver": rivals.mlserver,
}
_NAMES = ("bare", "ours", "plain", *_FRAMEWORKS)
_COLUMNS = (
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


def cells(row: Row) -> list[str]:
    """A row as people read it."""
    server = row.server if row.processes == 1 else f"{row.server}, {row.processes} workers"
    about = [server, row.kind, str(row.clients)]
    if row.note:
        return [*about, row.note, *[""] * (len(_COLUMNS) - len(about) - 1)]
    rates = [f"{row.requests_s:,.0f}", f"{row.images_s:,.0f}"]
    latencies = [f"{value:.2f}" for value in (row.p50_ms, row.p95_ms, row.p99_ms)]
    times = [f"{row.server_cpu_s:.2f}", f"{row.generator_cpu_s:.2f}", f"{row.cpu_us:,.0f}"]
    return [*about, *rates, *latencies, *times]


def shown(title: str, rows: list[Row]) -> Table:
    table = Table(title=title)
    for index, heading in enumerate(_COLUMNS):
        table.add_column(heading, justify="left" if index < 2 else "right")
    for row in rows:
        table.add_row(*cells(row))
    return table


def arguments() -> argparse.Namespace:
    serving = ROOT / ".venv" / "bin" / "python"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, help="for each row (default 4)")
    parser.add_argument("--repeat", type=int, help="rounds, of which figures are medians (3)")
    parser.add_argument("--quick", action="store_true", help="1 s, one round, no trials of peers")
    parser.add_argument("--only", action="append", choices=_NAMES, help="may be given repeatedly")
    parser.add_argument("--clients", type=int, action="append", choices=CLIENTS)
    parser.add_argument(
        "--python",
        type=Path,
        default=serving if serving.exists() else Path(sys.executable),
        help="the service's interpreter (default .venv's, else this one)",
    )
    parsed = parser.parse_args()
    parsed.seconds = parsed.seconds or (1 if parsed.quick else 4)
    parsed.repeat = parsed.repeat or (1 if parsed.quick else 3)
    parsed.clients = parsed.clients or ((1, 32) if parsed.quick else CLIENTS)
    parsed.only = parsed.only or _NAMES
    return parsed


def main() -> None:
    parsed = arguments()
    console = Console(width=None if sys.stdout.isatty() else 140)
    with tempfile.TemporaryDirectory() as place:
        run(parsed, Path(place), console)


def run(parsed: argparse.Namespace, place: Path, console: Console) -> None:
    folder = contestants.newest(ROOT / "models", "mnist")
    samples = contestants.samples(folder)
    models = place / "models"  # the service gets the newest version alone
    shutil.copytree(folder, models / "mnist" / folder.name)
    model = models / "mnist" / folder.name / "model.onnx"
    requests, threads = place / "requests", len(os.sched_getaffinity(0))

    def told(row: Row) -> None:
        console.print("  " + "  ".join(cell for cell in cells(row) if cell))

    field: list[Contestant] = []
    if "ours" in parsed.only:
        counts = (1, 2) if measurement.knows_workers(parsed.python) else (1,)
        field += [contestants.ours(parsed.python, models, samples, workers=n) for n in counts]
    if "plain" in parsed.only:
        python = environments.python_of("plain")
        field += [rivals.plain(python, model, samples, workers=n) for n in (1, 2)]
    for peer, made in _FRAMEWORKS.items():
        if peer in parsed.only:
            field.append(made(environments.python_of(peer), model, samples))
    field = [tuned(one, requests, parsed.quick, console) for one in field]

    rows: list[Row] = []
    resources: list[Resources] = []
    steps: list[Callable[[], None]] = []

    def alone() -> None:
        seconds = max(1.0, parsed.seconds / 4)
        for row in measurement.bare(parsed.python, model, threads, seconds, _BATCHES):
            told(row)
            rows.append(row)

    def step(one: Contestant) -> Callable[[], None]:
        def measure() -> None:
            more, used = measurement.measured(
                one, samples.labels, requests, parsed.seconds, parsed.clients, told
            )
            rows.extend(more)
            resources.append(used)

        return measure

    steps = [alone] if "bare" in parsed.only else []
    steps += [step(one) for one in field]
    for number in range(parsed.repeat):
        console.print(f"round {number + 1} of {parsed.repeat}")
        for measure in steps if number % 2 == 0 else reversed(steps):
            measure()
    console.print(shown(f"mnist/{folder.name}", medians(rows)))
    for used in resources:
        console.print(
            f"{used.server}, {used.processes} asked for: ready after {used.ready_s:.2f} s, "
            f"{used.seen} processes, {used.memory_mib:.0f} MiB"
        )


def tuned(one: Contestant, place: Path, quick: bool, console: Console) -> Contestant:
    """With the best of its variants, or in the quick form the first."""
    if quick or len(one.variants) == 1:
        return replace(one, env={**one.env, **one.variants[0]}, variants=({},))
    return measurement.best_variant(
        one,
        place,
        lambda variant, rate: console.print(
            f"  trial of {one.name}, {one.processes}: {dict(variant)} {rate:,.0f} requests/s"
        ),
    )


if __name__ == "__main__":
    main()
