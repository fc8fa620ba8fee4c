"""Images per second of the training step, by method and precision, in one run.

Random images, the small CNN at MNIST's size and the attack of `mnist-fast`. Ratios within one run
mean something; absolute figures belong to the machine.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from training import config
from training.data import Images
from training.device import choose
from training.run import Run

_EXPERIMENT = Path(config.__file__).parent / "configs" / "mnist-fast.toml"


def images_per_second(experiment: config.Config, device: torch.device, steps: int) -> float:
    """Mean rate over `steps` steps after two that warm up."""
    generator = torch.Generator().manual_seed(0)
    count = experiment.optimizer.batch_size * (steps + 2)
    images = Images(
        pixels=torch.randint(0, 256, (count, 1, 28, 28), dtype=torch.uint8, generator=generator),
        label=torch.randint(0, 10, (count,), generator=generator),
        classes=tuple("0123456789"),
    )
    # Past the ramp from the first step on, so that the attacks run at full strength.
    run = Run(replace(experiment, attack=replace(experiment.attack, ramp=0.0)), images, device)
    for _ in range(2):
        run.advance()
    began = time.perf_counter()
    for _ in range(steps):
        float(run.advance().total.detach())  # waits for the device
    return steps * experiment.optimizer.batch_size / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parsed = parser.parse_args()
    device = choose(parsed.device)
    experiment = config.load(_EXPERIMENT)
    table = Table(title=f"training step, small CNN, {device}, batch 128")
    for heading in ("method", "precision", "images/s", "to aat++ float32"):
        table.add_column(heading, justify="right")
    rates = {
        (method, precision): images_per_second(
            replace(experiment, method=method, precision=precision), device, parsed.steps
        )
        for precision in ("float32", "bfloat16")
        for method in ("st", "at", "aat", "aat++")
    }
    for (method, precision), rate in rates.items():
        ratio = rate / rates["aat++", "float32"]
        table.add_row(method, precision, f"{rate:,.0f}", f"{ratio:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
