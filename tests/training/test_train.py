"""The loop around the steps: it saves, watches, stops when asked and goes on where it stood."""

import io
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from rich.console import Console

from tests.training import tiny
from tests.training.crew import Told, crew
from training import checkpoint, train
from training.config import Config, ConfigError
from training.distributed import World
from training.objective import Terms
from training.run import Run, RunError
from training.train import Outcome, stop_requests, watch

ALONE = World(device=torch.device("cpu"))
CONFIG = tiny.config(optimizer={"epochs": 2, "ema": 0.9})  # three steps an epoch
STEP = Run.advance
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def go(
    folder: Path, config: Config = CONFIG, *, seed: int = 0, max_steps: int | None = None
) -> Outcome:
    return train.train(
        config,
        tiny.splits(seed=seed),
        folder,
        world=ALONE,
        console=Console(file=io.StringIO(), width=100),
        max_steps=max_steps,
    )


def lines(folder: Path, kind: str) -> list[dict[str, float]]:
    parsed = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line for line in parsed if line["kind"] == kind]


def weights(outcome: Outcome) -> str:
    return checkpoint.load(outcome.path).header.weights_sha256


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int, number: int) -> None:
    """Send the signal to this process while that step is taken."""
    advance = Run.advance

    def interrupted(self: Run) -> Terms:
        terms = advance(self)
        if self.step == step:
            os.kill(os.getpid(), number)
        return terms

    monkeypatch.setattr(Run, "advance", interrupted)


def test_runs_to_the_end(tmp_path: Path) -> None:
    outcome = go(tmp_path)
    assert (outcome.finished, outcome.stopped) == (True, False)
    saved = checkpoint.load(outcome.path)
    assert saved.header == outcome.checkpoint.header
    assert saved.header.step == 6
    assert [line["step"] for line in lines(tmp_path, "train")] == [3, 6]
    assert [line["step"] for line in lines(tmp_path, "validation")] == [3, 6]
    assert {*lines(tmp_path, "train")[0]} == {
        *("kind", "step", "loss", "images_per_second", "kept_standard", "kept_nonrobust"),
        *(f"loss_{name}" for name in ("standard", "asymmetric", "robust", "nonrobust")),
    }


def test_in_pieces_as_in_one(tmp_path: Path) -> None:
    whole = go(tmp_path / "whole")
    first = go(tmp_path / "pieces", max_steps=2)
    assert (first.finished, first.stopped, first.checkpoint.header.step) == (False, False, 2)
    second = go(tmp_path / "pieces", max_steps=2)
    assert second.checkpoint.header.step == 4
    third = go(tmp_path / "pieces")
    assert third.finished
    assert weights(third) == weights(whole)
    assert third.checkpoint.header.seconds >= first.checkpoint.header.seconds
    kept = [lines(tmp_path / name, "validation") for name in ("whole", "pieces")]
    assert kept[0] == kept[1]


def test_a_finished_run_has_nothing_left_to_do(tmp_path: Path) -> None:
    before = go(tmp_path)
    content = before.path.read_bytes()
    again = go(tmp_path)
    assert again.finished
    assert again.path.read_bytes() == content


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_leaves_a_checkpoint_that_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    whole = go(tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 4, number)
        stopped = go(tmp_path / "stopped")
    assert (stopped.finished, stopped.stopped) == (False, True)
    assert checkpoint.load(stopped.path).header.step == 4
    assert weights(go(tmp_path / "stopped")) == weights(whole)


def test_a_signal_during_the_last_step_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(monkeypatch, 6, signal.SIGINT)
    outcome = go(tmp_path)
    assert (outcome.finished, outcome.stopped) == (True, False)


def test_a_second_signal_is_not_caught() -> None:
    def twice() -> None:
        with stop_requests() as requested:
            os.kill(os.getpid(), signal.SIGINT)
            assert requested()
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        twice()


def test_handlers_return() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with stop_requests() as requested:
        assert [signal.getsignal(number) for number in SIGNALS] != before
        assert not requested()
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_saves_by_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = []
    original = checkpoint.save

    def watched(path: Path, value: checkpoint.Checkpoint) -> None:
        saved.append(value.header.step)
        original(path, value)

    monkeypatch.setattr(checkpoint, "save", watched)
    console = Console(file=io.StringIO())
    train.train(CONFIG, tiny.splits(), tmp_path, world=ALONE, console=console, save_every=0.0)
    assert saved == [1, 2, 3, 4, 5, 6]


def test_a_loss_that_is_no_number_keeps_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(tmp_path, max_steps=3)
    good = (tmp_path / "checkpoint.safetensors").read_bytes()
    advance = Run.advance
    nan = torch.tensor(float("nan"))
    monkeypatch.setattr(Run, "advance", lambda self: (advance(self), Terms(total=nan))[1])
    with pytest.raises(RunError, match="the loss is nan at step 6"):
        go(tmp_path)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == good


@pytest.mark.parametrize("decay", [1e6, 1e38])
def test_weights_that_are_ruined_are_not_saved(tmp_path: Path, decay: float) -> None:
    """The step that ruins them reports the loss from before it."""
    with pytest.raises(RunError, match=r"a weight is \S+ at step 1; the checkpoint before it"):
        go(tmp_path, tiny.config(optimizer={"lr": 1e6, "weight_decay": decay}), max_steps=1)
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_other_code_that_goes_on_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for commit, steps in (("one", 2), ("one", 1), ("two", 1), ("three", 2)):
        monkeypatch.setattr("training.run.current_commit", lambda commit=commit: commit)
        outcome = go(tmp_path, max_steps=steps)
    header = checkpoint.load(outcome.path).header
    assert (header.commit, header.earlier) == ("three", ("one to step 3", "two to step 4"))


def test_the_best_epoch_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the robust way under attack, over a stop too; the last of equals."""
    config = tiny.config(optimizer={"epochs": 5, "ema": 0.9}, keep="best")
    robustness = iter([0.3, 0.5, 0.5, 0.1, 0.4])
    monkeypatch.setattr(
        train,
        "watch",
        lambda run, images: {"robust_natural": 1.0, "robust_attacked": next(robustness)},
    )
    best = tmp_path / checkpoint.BEST_FILE
    steps = []
    for count in (4, 4, 4, 4):
        go(tmp_path, config, max_steps=count)
        steps.append(checkpoint.load(best).header.step)
    assert steps == [3, 6, 9, 9]
    assert checkpoint.of(tmp_path) == best
    assert not checkpoint.load(best).model
    assert checkpoint.load(tmp_path / checkpoint.RUN_FILE).header.finished


def test_a_first_epoch_is_the_best_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where its share is rounded up in the log that it is compared with."""
    monkeypatch.setattr(train, "watch", lambda run, images: {"robust_attacked": 2 / 3})
    go(tmp_path, tiny.config(optimizer={"epochs": 1}, keep="best"))
    assert checkpoint.load(tmp_path / checkpoint.BEST_FILE).header.step == 3


def test_a_fresh_run_forgets_an_older_ones_best(tmp_path: Path) -> None:
    (tmp_path / checkpoint.BEST_FILE).write_bytes(b"of another run")
    outcome = go(tmp_path)
    assert checkpoint.of(tmp_path) == outcome.path


def test_the_last_epoch_is_kept(tmp_path: Path) -> None:
    outcome = go(tmp_path)
    assert checkpoint.of(tmp_path) == outcome.path
    assert checkpoint.of(outcome.path) == outcome.path


def test_a_folder_of_another_experiment(tmp_path: Path) -> None:
    go(tmp_path, max_steps=1)
    with pytest.raises(ConfigError, match="another experiment"):
        go(tmp_path, tiny.config(seed=8))
    with pytest.raises(ConfigError, match="other images"):
        go(tmp_path, seed=1)


@pytest.mark.parametrize(
    ("method", "ways"),
    [("st", ["nonrobust"]), ("at", ["robust"]), ("aat", ["standard", "robust", "nonrobust"])],
)
def test_watches_the_ways_that_are_trained(method: str, ways: list[str]) -> None:
    splits = tiny.splits()
    run = Run(tiny.config(method=method), splits.train, ALONE)
    run.model.train()
    values = watch(run, splits.validation)
    assert list(values) == [f"{way}_{kind}" for way in ways for kind in ("natural", "attacked")]
    assert all(0 <= value <= 1 for value in values.values())
    assert values == watch(run, splits.validation)
    assert run.model.training


def go_along(world: World, folder: Path, config: Config = CONFIG) -> tuple[bool, bool, int, str]:
    outcome = train.train(
        config, tiny.splits(), folder, world=world, console=Console(file=io.StringIO(), width=100)
    )
    header = outcome.checkpoint.header
    return outcome.finished, outcome.stopped, header.step, header.weights_sha256


def stop_along(world: World, folder: Path) -> tuple[bool, bool, int, str]:
    """Only the process that does not lead gets the signal."""
    with pytest.MonkeyPatch.context() as patch:
        if not world.leads:
            stop_after(patch, 4, signal.SIGTERM)
        return go_along(world, folder)


def results(told: list[Told | None]) -> list[object]:
    return [one and (one.result or one.kind) for one in told]


def test_two_processes_write_one_run_that_one_goes_on_with(tmp_path: Path) -> None:
    stopped = crew(stop_along, tmp_path / "run")
    path = tmp_path / "run" / checkpoint.RUN_FILE
    saved = checkpoint.load(path).header
    assert results(stopped) == [(False, True, 4, saved.weights_sha256)] * 2
    assert saved.device == "2 x CPU"
    names = {entry.name for entry in (tmp_path / "run").iterdir()}
    assert names == {path.name, "log.jsonl", "tensorboard"}
    assert [line["step"] for line in lines(tmp_path / "run", "train")] == [3]
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "run", copy)
    finished = crew(go_along, tmp_path / "run")
    assert results(finished) == results(crew(go_along, tmp_path / "whole"))
    assert results(finished) == [(True, False, 6, checkpoint.load(path).header.weights_sha256)] * 2
    alone = go(copy)
    assert (alone.finished, alone.checkpoint.header.step) == (True, 6)
    assert checkpoint.load(alone.path).header.device == "CPU"


def test_weights_that_are_ruined_end_all_processes(tmp_path: Path) -> None:
    ruined = tiny.config(optimizer={"lr": 1e6, "weight_decay": 1e6})
    first, second = crew(go_along, tmp_path, ruined)
    assert first is not None
    assert second is not None
    assert (first.kind, second.kind) == ("RunError", "ToldElsewhere")
    assert not (tmp_path / checkpoint.RUN_FILE).exists()


def go_apart(world: World, folder: Path) -> tuple[bool, bool, int, str]:
    return go_along(world, folder / str(world.rank))


def test_processes_that_see_different_checkpoints_are_told(tmp_path: Path) -> None:
    go(tmp_path / "1", max_steps=2)
    first, second = crew(go_apart, tmp_path)
    assert first is not None
    assert second is not None
    assert (first.kind, second.kind) == ("DistributedError", "ToldElsewhere")
    assert "do not see the same images and the same checkpoint" in first.text
    assert not (tmp_path / "0").exists()


def die_along(world: World, folder: Path) -> tuple[bool, bool, int, str]:
    with pytest.MonkeyPatch.context() as patch:
        if not world.leads:
            patch.setattr(
                Run, "advance", lambda self: os._exit(1) if self.step == 4 else STEP(self)
            )
        return go_along(world, folder)


def test_a_process_that_dies_in_a_step_ends_the_others(tmp_path: Path) -> None:
    first, second = crew(die_along, tmp_path)
    assert second is None
    assert first is not None
    assert first.kind == "DistributedError"
    assert checkpoint.load(tmp_path / checkpoint.RUN_FILE).header.step == 3
