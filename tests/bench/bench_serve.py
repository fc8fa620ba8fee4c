"""The service beside bare ONNX Runtime and four other servers: one machine, one client, one run.

`make bench-serve` installs what is needed. Rows are measured in rounds, every second one backwards,
as the machine is never quite quiet; each figure is the median of its rounds, and each ratio one of
figures of the same run. Says which targets are met; fails for none of them.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench import contestants, environments, heavy_model, measurement, rivals, table
from tests.bench.contestants import CLIENTS, HEAVY, Contestant, Samples
from tests.bench.course import Course, Step
from tests.bench.load import generator
from tests.bench.measurement import ROOT
from tests.bench.report import write
from tests.bench.results import Plan, Results
from tests.bench.soak import soak

_CACHE = ROOT / "runs" / "bench"
_BATCHES = (1, 4, 8, 16, 32, 64, 128, 256)
_HEAVY_BATCHES = (1, 16, 32, 64)
_HEAVY_S = 30  # so long that the requests on their way at the end are one in a hundred
_FRAMEWORKS = {
    "litserve": rivals.litserve,
    "bentoml": rivals.bentoml,
    "mlserver": rivals.mlserver,
}
_NAMES = ("bare", "ours", "plain", *_FRAMEWORKS, "heavy", "soak")
_PACKAGES = (
    *("parallax-detect", "litserve", "bentoml", "mlserver"),
    *("onnxruntime", "numpy", "pillow", "fastapi", "starlette", "uvicorn", "uvloop", "httptools"),
)


def arguments() -> argparse.Namespace:
    serving = ROOT / ".venv" / "bin" / "python"
    parser = argparse.ArgumentParser("bench-serve", description=__doc__)
    parser.add_argument("--seconds", type=int, help="of a row (default 4)")
    parser.add_argument("--repeat", type=int, help="rounds (default 3)")
    parser.add_argument("--soak", type=int, help="requests of the memory test (default 100000)")
    parser.add_argument("--quick", action="store_true", help="one round of 1 s, nothing is tuned")
    parser.add_argument("--only", action="append", choices=_NAMES, help="may be repeated")
    parser.add_argument("--clients", type=int, action="append", choices=CLIENTS)
    parser.add_argument("--out", type=Path, metavar="DIR", help="for report, results and plot")
    parser.add_argument(
        "--python",
        type=Path,
        default=serving if serving.exists() else Path(sys.executable),
        help="the service's interpreter (default .venv's, else this one)",
    )
    parsed = parser.parse_args()
    quick = parsed.quick
    parsed.seconds = parsed.seconds or (1 if quick else 4)
    parsed.repeat = parsed.repeat or (1 if quick else 3)
    parsed.soak = parsed.soak or (5_000 if quick else 100_000)
    parsed.clients = parsed.clients or ((1, 32) if quick else CLIENTS)
    parsed.only = parsed.only or _NAMES
    return parsed


def field(parsed: argparse.Namespace, models: Path, samples: Samples) -> list[Contestant]:
    """All servers that are wanted, ours first."""
    model = contestants.newest(models, "mnist") / "model.onnx"
    found = []
    if "ours" in parsed.only:
        counts = (1, 2) if measurement.knows_workers(parsed.python) else (1,)
        found += [contestants.ours(parsed.python, models, samples, workers=n) for n in counts]
    if "plain" in parsed.only:
        python = environments.python_of("plain")
        found += [rivals.plain(python, model, samples, workers=n) for n in (1, 2)]
    for peer, made in _FRAMEWORKS.items():
        if peer in parsed.only:
            found.append(made(environments.python_of(peer), model, samples))
    return found


def measure(parsed: argparse.Namespace, place: Path, console: Console) -> Results:
    """All rounds, then the soak."""
    folder = contestants.newest(ROOT / "models", "mnist")
    samples = contestants.samples(folder)
    models = place / "models"  # the service gets the newest version alone
    shutil.copytree(folder, models / "mnist" / folder.name)
    model = models / "mnist" / folder.name / "model.onnx"
    servers = field(parsed, models, samples)
    heavy = heavy_model.models(_CACHE / "models") if "heavy" in parsed.only else None

    course = Course(parsed.python, place / "requests", console)
    steps: list[Step] = []
    if "bare" in parsed.only:
        steps.append(partial(course.bare, model, max(0.5, parsed.seconds / 4), _BATCHES))
    for server in servers:
        tuned = course.tuned(server, trials=not parsed.quick)
        steps.append(partial(course.serve, tuned, parsed.seconds, parsed.clients))
    if heavy is not None:
        seconds = _HEAVY_S if parsed.seconds > 1 else 5
        graph, ours = (
            heavy / HEAVY / "1" / "model.onnx",
            heavy_model.contestant(parsed.python, heavy),
        )
        steps.append(partial(course.bare, graph, seconds / 5, _HEAVY_BATCHES))
        steps.append(partial(course.serve, ours, seconds, CLIENTS))
    course.rounds(steps, parsed.repeat)
    remembered = None
    if "soak" in parsed.only:
        remembered = soak(contestants.ours(parsed.python, models, samples), parsed.soak, place)
    return Results(
        machine=course.machine,
        plan=Plan(
            generator=generator(),
            seconds=parsed.seconds,
            rounds=parsed.repeat,
            model=f"mnist/{folder.name}",
            quick=parsed.quick,
        ),
        versions={one.name: environments.versions(one.python, _PACKAGES) for one in servers},
        trials=course.trials,
        rounds=course.rows,
        usages=course.usages,
        soak=remembered,
    )


def shown(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    made = Table(title=title)
    for index, heading in enumerate(headings):
        made.add_column(heading, justify="left" if index == 0 else "right")
    for cells in rows:
        made.add_row(*cells)
    return made


def main() -> None:
    parsed = arguments()
    console = Console(width=None if sys.stdout.isatty() else 170)
    with tempfile.TemporaryDirectory() as place:
        results = measure(parsed, Path(place), console)
    for model in dict.fromkeys(row.model for row in results.rounds):
        rows = [table.row(row) for row in results.rows if row.model == model]
        console.print(shown(model, table.ROWS, rows))
    console.print(shown("start and memory", table.USAGES, table.usages(results)))
    console.print(shown("targets", table.TARGETS, table.target_rows(results)))
    if parsed.out is not None:
        write(results, parsed.out)


if __name__ == "__main__":
    main()
