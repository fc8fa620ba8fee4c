"""A world by torchrun's variables, and two real processes that agree over gloo."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.training import examinee, tiny
from tests.training.crew import crew
from training import checkpoint
from training.config import ConfigError
from training.distributed import World, opened, world_of
from training.share import WHOLE, Share

ROOT = Path(__file__).parents[2]
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
}


def test_a_world_by_torchruns_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_of(TORCHRUN, CPU)
    assert world == World(device=CPU, rank=5, size=8)
    assert (world.leads, world.share, str(world)) == (False, Share(rank=5, size=8), "8 x cpu")
    assert world.hardware == "8 x CPU"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert world_of(TORCHRUN, CUDA).device == torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    with pytest.raises(ConfigError, match="4 processes on this machine, but 3 CUDA devices"):
        world_of(TORCHRUN, CUDA)


@pytest.mark.parametrize("environment", [{}, {"RANK": "1", "WORLD_SIZE": "2"}])
def test_without_torchrun_one_process(environment: dict[str, str]) -> None:
    """A scheduler's variables alone start no others."""
    assert world_of(environment, CPU) == World(device=CPU)


def test_one_process_opens_nothing() -> None:
    with opened("cpu") as world:
        assert not torch.distributed.is_initialized()
        value = torch.tensor([1.0, 2.0])
        world.mean([value])
        assert value.tolist() == [1.0, 2.0]
        assert [world.any(asked) for asked in (True, False)] == [True, False]
        assert world.agreed("anything")
        with world.together(), world.in_turn():
            pass
        model = tiny.model()
        kinds = [type(module) for module in model.modules()]
        world.adapt(model, 4)
        assert [type(module) for module in model.modules()] == kinds
    assert (world.leads, world.share, str(world), world.hardware) == (True, WHOLE, "cpu", "CPU")


def test_batch_statistics_are_shared_on_cuda() -> None:
    """Converting needs no device; that the layer works does."""
    model = tiny.model("preact_resnet18")
    names = list(model.state_dict())
    World(device=CUDA, rank=0, size=2).adapt(model, 4)
    kinds = [type(module) for module in model.modules()]
    assert torch.nn.SyncBatchNorm in kinds
    assert torch.nn.BatchNorm2d not in kinds
    assert list(model.state_dict()) == names


def agreeing(world: World) -> list[object]:
    one, other = torch.full((2, 2), float(world.rank)), torch.tensor(3.0 - world.rank)
    world.mean([one, other])
    return [
        one.tolist(),
        other.item(),
        [world.any(asked) for asked in (False, world.leads, not world.leads, True)],
        [world.agreed(text) for text in ("same", f"process {world.rank}")],
    ]


def test_what_the_processes_agree_on() -> None:
    first, second = crew(agreeing)
    expected = [[[0.5, 0.5], [0.5, 0.5]], 2.5, [False, True, True, True], [True, False]]
    assert first is not None
    assert first.result == expected
    assert second == first


def failing(world: World, ranks: tuple[int, ...]) -> None:
    with world.together():
        if world.rank in ranks:
            raise ConfigError(f"process {world.rank} cannot")


@pytest.mark.parametrize(("ranks", "first"), [((1,), 1), ((0,), 0), ((0, 1), 0)])
def test_one_fault_is_told_once_and_ends_all(ranks: tuple[int, ...], first: int) -> None:
    told = crew(failing, ranks)
    expected = ["ToldElsewhere", "ToldElsewhere"]
    expected[first] = "ConfigError"
    assert [one and one.kind for one in told] == expected
    text = told[first]
    assert text is not None
    assert text.text == f"process {first} cannot"


def dying(world: World) -> None:
    if not world.leads:
        os._exit(3)
    world.any(False)


def test_a_process_that_dies_ends_the_others() -> None:
    first, second = crew(dying)
    assert second is None
    assert first is not None
    assert first.kind == "DistributedError"
    assert first.text == "another process of the run ended; what was saved before stays"


def taking_turns(world: World, file: Path) -> None:
    if world.leads:
        time.sleep(0.1)  # the others would be first if they did not wait
    with world.in_turn(), file.open("a") as log:
        log.write(f"{world.rank}\n")


def test_the_leading_process_goes_first(tmp_path: Path) -> None:
    crew(taking_turns, tmp_path / "turns")
    assert (tmp_path / "turns").read_text() == "0\n1\n"


@pytest.mark.slow
def test_torchrun_is_stopped_by_hand_and_leaves_a_checkpoint(tmp_path: Path) -> None:
    examinee.write_images(tmp_path / "data", ("cat", "dog"), count=4)
    run = tmp_path / "run"
    overrides = [
        f"data.source=imagefolder:{tmp_path / 'data'}",
        *("data.validation=2", "data.calibration=2", "model.width=1", "optimizer.batch_size=4"),
        "optimizer.epochs=100000",
    ]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    training = ["training.cli", "train", str(ROOT / "training" / "configs" / "mnist-fast.toml")]
    output = tmp_path / "output"
    with output.open("w") as file:
        process = subprocess.Popen(
            [
                *(*torchrun, "--nproc-per-node", "2", "-m", "--"),
                *(*training, *overrides, "--run", str(run), "--device", "cpu"),
            ],
            cwd=ROOT,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            while process.poll() is None and not (run / checkpoint.RUN_FILE).exists():
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            process.wait(60)
        finally:
            process.kill()
            process.wait()
    printed = output.read_text()
    step = checkpoint.load(run / checkpoint.RUN_FILE).header.step
    assert f"checkpoint.safetensors: step {step}, stopped; the same command goes on" in printed
    assert printed.count("on 4 images, 2 x cpu") == 1
