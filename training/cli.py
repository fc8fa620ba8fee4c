"""`parallax-train`: one subcommand a stage. Parses, calls the stage, turns known faults into one line.

Each stage is imported when it is asked for: torch takes seconds to load and `--help` should not.
"""

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Run one stage; the exit status is 0, 1 for a known fault, 130 for a run that was stopped."""
    parsed = _parser().parse_args(arguments)
    from training.checkpoint import CheckpointError
    from training.config import ConfigError
    from training.data import DataError

    try:
        status: int = parsed.stage(parsed)
    except (ConfigError, DataError, CheckpointError) as error:
        print(f"parallax-train: {error}", file=sys.stderr)  # noqa: T201  # a command line speaks
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="parallax-train", description=__doc__)
    stages = parser.add_subparsers(required=True, metavar="STAGE")
    train = stages.add_parser("train", help="train a model, or go on with a run that was stopped")
    train.add_argument("config", type=Path, help="experiment, a TOML file")
    train.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. optimizer.epochs=3")
    train.add_argument("--run", type=Path, help="folder of the run (default: runs/NAME)")
    train.add_argument("--max-steps", type=int, help="stop this call after so many steps")
    train.add_argument("--save-every", type=float, default=300.0, metavar="SECONDS")
    _add_device(train)
    train.set_defaults(stage=_train)
    return parser


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        choices=["auto", "cpu", "cuda"],
        default="auto",
        help="auto takes CUDA where there is a device",
    )


def _train(parsed: argparse.Namespace) -> int:
    from rich.console import Console

    from training import config, data
    from training.device import choose
    from training.train import train

    console = Console()
    experiment = config.load(parsed.config, tuple(parsed.overrides))
    splits = data.load(experiment.data)
    device = choose(parsed.device)
    folder = parsed.run or Path("runs") / experiment.name
    console.print(
        f"{experiment.name}: {experiment.method} on {len(splits.train)} images, {device}, {folder}"
    )
    outcome = train(
        experiment,
        splits,
        folder,
        device=device,
        console=console,
        save_every=parsed.save_every,
        max_steps=parsed.max_steps,
    )
    header = outcome.checkpoint.header
    state = "finished" if outcome.finished else "stopped; the same command goes on"
    console.print(f"{outcome.path}: step {header.step}, {state}")
    return 0 if outcome.finished or parsed.max_steps is not None else 130


if __name__ == "__main__":
    sys.exit(main())
