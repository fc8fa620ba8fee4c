"""What a run leaves to read: one history, also after it was cut off and resumed."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training.files import OutputError
from training.run_log import run_log


def console() -> Console:
    return Console(file=io.StringIO(), width=100)


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_lines_and_curves(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with run_log(folder, step=0, total=4, console=console()) as log:
        log.record("train", 2, {"loss": 1.23456789})
        log.record("validation", 4, {"robust_natural": 0.5})
    assert lines(folder) == [
        {"kind": "train", "step": 2, "loss": 1.234568},
        {"kind": "validation", "step": 4, "robust_natural": 0.5},
    ]
    curves = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert sorted(curves.Tags()["scalars"]) == ["train/loss", "validation/robust_natural"]
    (point,) = curves.Scalars("train/loss")
    assert (point.step, point.value) == (2, pytest.approx(1.23456789))


def test_a_resumed_log_forgets_what_the_checkpoint_does_not_know(tmp_path: Path) -> None:
    with run_log(tmp_path, step=0, total=9, console=console()) as log:
        for step in (2, 4, 6):
            log.record("train", step, {"loss": float(step)})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')  # cut off while it was written
    with run_log(tmp_path, step=4, total=9, console=console()) as log:
        log.record("train", 6, {"loss": -6.0})
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [
        (2, 2.0),
        (4, 4.0),
        (6, -6.0),
    ]
    curves = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(point.step, point.value) for point in curves.Scalars("train/loss")] == [
        (2, 2.0),
        (4, 4.0),
        (6, -6.0),
    ]


def test_the_bar_and_the_lines_above_it(tmp_path: Path) -> None:
    screen = io.StringIO()
    seen = Console(file=screen, width=100, force_terminal=True)
    with run_log(tmp_path, step=1, total=8, console=seen) as log:
        log.say("epoch   1  robust_natural 0.500")
        log.advance(3, "loss 1.5")
    printed = screen.getvalue()
    assert "epoch   1  robust_natural 0.500" in printed
    assert "loss 1.5" in printed
    assert "3/8" in printed


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OutputError, match="cannot write to"),
        run_log(tmp_path / "file" / "run", step=0, total=1, console=console()),
    ):
        pass
