"""Images per second of the AAT++ step, each speed-up added to those before it, in one run.

Random images. The first row is the plain version: eager, float32, one attack after another. The
arithmetic of a step is counted by torch on the plain version, so that no row is credited with work
that it saved; the matrix rate of the device is measured beside it. Ratios within one run mean
something, absolute figures belong to the machine.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from training import config
from training.config import Config
from training.data import Images
from training.device import choose
from training.distributed import World
from training.run import Run

_CONFIGS = Path(config.__file__).parent / "configs"
_PLAIN = {"fused": False, "joint": False, "channels_last": False, "compile": False}
# Name of the row, what it changes of `compute`, precision.
_LADDER: tuple[tuple[str, dict[str, bool], str], ...] = (
    ("plain", {}, "float32"),
    ("+ fused attacks", {"fused": True}, "float32"),
    ("+ bfloat16", {"fused": True}, "bfloat16"),
    ("+ channels last", {"fused": True, "channels_last": True}, "bfloat16"),
    ("+ joint batches", {"fused": True, "channels_last": True, "joint": True}, "bfloat16"),
    (
        "+ compile",
        {"fused": True, "channels_last": True, "joint": True, "compile": True},
        "bfloat16",
    ),
)


def rung(experiment: Config, changes: dict[str, bool], precision: Any) -> Config:
    """The experiment at full attack strength from the first step on, with one row's speed-ups."""
    return replace(
        experiment,
        precision=precision,
        attack=replace(experiment.attack, ramp=0.0),
        compute=replace(experiment.compute, **{**_PLAIN, **changes}),
    )


def run_of(experiment: Config, side: int, channels: int, device: torch.device) -> Run:
    generator = torch.Generator().manual_seed(0)
    count = 4 * experiment.optimizer.batch_size
    shape = (count, channels, side, side)
    images = Images(
        pixels=torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator),
        label=torch.randint(0, 10, (count,), generator=generator),
        classes=tuple("0123456789"),
    )
    return Run(experiment, images, World(device=device))


def seconds(action: Callable[[], object], device: torch.device) -> float:
    """Of one call, the device's queue included."""
    began = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def matrix_rate(device: torch.device, precision: torch.dtype) -> float:
    """Best of ten: floating-point operations a second of a large square product."""
    side = 8192 if device.type == "cuda" else 2048
    one, other = (torch.randn(side, side, device=device, dtype=precision) for _ in range(2))
    return 2 * side**3 / min(seconds(lambda: one @ other, device) for _ in range(10))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", default="mnist-fast", help="a file of training/configs")
    parser.add_argument("--steps", type=int, default=6, help="timed, for each row")
    parser.add_argument("--batch-size", type=int, help="(default: the experiment's)")
    parser.add_argument("--width", type=int, help="a narrower network, for a small machine")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parsed = parser.parse_args()
    console, device = Console(), choose(parsed.device)
    experiment = config.load(_CONFIGS / f"{parsed.experiment}.toml")
    experiment = replace(experiment, model=replace(experiment.model, width=parsed.width))
    batch = parsed.batch_size or experiment.optimizer.batch_size
    experiment = replace(experiment, optimizer=replace(experiment.optimizer, batch_size=batch))
    small = experiment.model.backbone == "small_cnn"
    side, channels = (28, 1) if small else (32, 3)

    counter = FlopCounterMode(display=False)
    with counter:
        run_of(rung(experiment, {}, "float32"), side, channels, device).advance()
    work = counter.get_total_flops()
    peak = {name: matrix_rate(device, getattr(torch, name)) for name in ("float32", "bfloat16")}
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    table = Table(
        title=f"{experiment.name}, {experiment.model.backbone}, batch {batch}, {where}, "
        f"torch {torch.__version__}; {work / batch / 1e9:.2f} GFLOP an image"
    )
    for heading in ("step", "images/s", "to plain", "TFLOP/s", "of matrix rate", "first step, s"):
        table.add_column(heading, justify="left" if heading == "step" else "right", no_wrap=True)
    plain = 0.0
    for name, changes, precision in _LADDER:
        if changes.get("compile") and not parsed.compile:
            continue
        run = run_of(rung(experiment, changes, precision), side, channels, device)
        first = seconds(run.advance, device)
        run.advance()
        taken = statistics.median(seconds(run.advance, device) for _ in range(parsed.steps))
        plain = plain or taken
        rate = work / taken
        table.add_row(
            name,
            f"{batch / taken:,.0f}",
            f"{plain / taken:.2f}",
            f"{rate / 1e12:.2f}",
            f"{rate / peak[precision]:.0%}",
            f"{first:.1f}",
        )
    console.print(table)
    console.print(
        "matrix rate: "
        + ", ".join(f"{name} {rate / 1e12:.2f} TFLOP/s" for name, rate in peak.items())
    )


if __name__ == "__main__":
    main()
