"""The order in which things are measured, and what was found so far; each row is told at once."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from tests.bench import measurement, table
from tests.bench.contestants import Contestant
from tests.bench.results import Trial, Usage, this_machine
from tests.bench.rows import Row

Step = Callable[[], None]


class Course:
    """`place` is for the files of requests, `python` the service's interpreter."""

    def __init__(self, python: Path, place: Path, console: Console) -> None:
        self.python, self.place, self.console = python, place, console
        self.machine = this_machine()
        self.rows: list[Row] = []
        self.usages: list[Usage] = []
        self.trials: list[Trial] = []

    def rounds(self, steps: Sequence[Step], count: int) -> None:
        """Every second one backwards, so that a machine that slows down favours nobody."""
        for number in range(count):
            self._say(f"round {number + 1} of {count}")
            for step in steps if number % 2 == 0 else reversed(steps):
                step()

    def tuned(self, one: Contestant, *, trials: bool) -> Contestant:
        """With the best of its variants in short trials; without trials with the first."""
        if not trials or len(one.variants) == 1:
            return measurement.with_variant(one, one.variants[0])
        found = []
        for trial in measurement.trials(one, self.place):
            server = table.name(one.name, one.processes)
            self._say(f"  trial: {server} {trial.variant} {trial.requests_s:,.0f} requests/s")
            found.append(trial)
        self.trials += found
        best = max(found, key=lambda trial: trial.requests_s)
        return measurement.with_variant(one, best.variant)

    def serve(self, one: Contestant, seconds: float, clients: Sequence[int]) -> None:
        """All rows of a server."""
        rows, usage = measurement.measured(one, self.place, seconds, clients, self._tell)
        self.rows += rows
        self.usages.append(usage)

    def bare(self, model: Path, seconds: float, batches: Sequence[int]) -> None:
        """All rows of ONNX Runtime alone."""
        cpus = self.machine.cpus
        for row in measurement.bare(self.python, model, cpus, seconds, batches):
            self._tell(row)
            self.rows.append(row)

    def _tell(self, row: Row) -> None:
        self._say("  " + "  ".join(cell for cell in (row.model, *table.row(row)) if cell))

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False)
