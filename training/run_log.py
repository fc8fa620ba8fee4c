"""What a run writes while it goes: JSON lines, TensorBoard and the progress bar.

Receives numbers by name; does not know what they mean. After a resume the lines beyond the
checkpoint are dropped, so that the log tells one history.
"""

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from torch.utils.tensorboard import SummaryWriter

from training.files import ready_folder


class RunLog:
    """`log.jsonl` and `tensorboard/` in the run's folder, and a bar on the console."""

    def __init__(
        self, folder: Path, bar: Progress, task: TaskID, file: Path, writer: SummaryWriter
    ) -> None:
        self.folder = folder
        self._bar = bar
        self._task = task
        self._file = file
        self._writer = writer

    def advance(self, step: int, text: str) -> None:
        """Move the bar to `step` steps done."""
        self._bar.update(self._task, completed=step, description=text)

    def record(self, kind: str, step: int, values: dict[str, float]) -> None:
        """One line and one point a value."""
        with self._file.open("a") as file:
            rounded = {name: round(value, 6) for name, value in values.items()}
            file.write(json.dumps({"kind": kind, "step": step, **rounded}) + "\n")
        for name, value in values.items():
            self._writer.add_scalar(f"{kind}/{name}", value, step)

    def recorded(self, kind: str) -> list[dict[str, float]]:
        """What was recorded so far, also before a resume."""
        lines = map(json.loads, self._file.read_text().splitlines())
        return [line for line in lines if line.pop("kind") == kind]

    def say(self, text: str) -> None:
        """A line above the bar."""
        self._bar.console.print(text, highlight=False)


@contextlib.contextmanager
def run_log(folder: Path, *, step: int, total: int, console: Console) -> Iterator[RunLog]:
    """Open the log of a run that stands at `step` of `total`."""
    ready_folder(folder)
    file = folder / "log.jsonl"
    if file.exists():
        lines = file.read_text(errors="replace").splitlines()
        lines = [line for line in lines if _step(line) <= step]
        file.write_text("".join(line + "\n" for line in lines))
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    # TensorBoard hides this step and later ones; the step of the checkpoint itself is history.
    writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
    try:
        with bar:
            task = bar.add_task("training", total=total, completed=step)
            yield RunLog(folder, bar, task, file, writer)
    finally:
        writer.close()


def _step(line: str) -> float:
    """Of a line of the log; one that was cut off in the writing is later than any checkpoint."""
    try:
        return float(json.loads(line)["step"])
    except (KeyError, TypeError, ValueError):
        return math.inf
