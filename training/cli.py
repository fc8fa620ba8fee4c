"""`parallax-train`: the options of each stage; whatever is wrong becomes one line.

What a stage then does is in `commands`, imported when it is needed: torch takes seconds to load and
`--help` should not.
"""

import argparse
import math
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

from training.errors import ToldElsewhere, TrainingError

_WAYS = ["standard", "robust", "nonrobust"]
_SCORES = ["disbelief", "divergence", "doubt", "head"]
_QUICK = 1000  # images: 80 s of CPU time for the shipped MNIST model
_ATTACK = "NORM:EPS:STEP_SIZE:STEPS"
_ATTACK_HELP = "PGD, e.g. linf:8/255:2/255:20 (default: the usual one for the model's threat model)"


def main(arguments: list[str] | None = None) -> int:
    """Run one stage; the exit status is 0, 1 for a known fault, 130 for a run that was stopped.

    What cannot be parsed exits with 2.
    """
    parser = _parser()
    parsed, rest = parser.parse_known_args(arguments)
    # argparse takes a list of words in one place only; overrides may stand after an option too.
    if rest and (parsed.command != "train" or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        parsed.overrides += rest
    # While libraries load there is nothing to put in order, and what a stopped import leaves of one
    # can fail in any way.
    before = signal.signal(signal.SIGINT, _leave)
    from training.commands import COMMANDS

    signal.signal(signal.SIGINT, before)
    aloud, threading.excepthook = threading.excepthook, _mute
    try:
        status = COMMANDS[parsed.command](parsed)
    except ToldElsewhere:
        return 1
    except TrainingError as error:
        return _say(str(error), 1)
    except OSError as error:  # of a run's folder, its log or its curves
        place = f"{error.filename}: " if error.filename else ""
        return _say(f"{place}{error.strerror or error}", 1)
    except KeyboardInterrupt:
        return _say("stopped", 130)
    finally:
        threading.excepthook = aloud
    return status


def _say(what: str, status: int) -> int:
    print(f"parallax-train: {what}", file=sys.stderr)  # noqa: T201  # a command line speaks
    return status


def _mute(fault: threading.ExceptHookArgs) -> None:
    """TensorBoard writes in a thread of its own; where it cannot, `main` is told as well."""
    if not isinstance(fault.exc_value, OSError):
        threading.__excepthook__(fault)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(_say("stopped", 130))


class _Parser(argparse.ArgumentParser):
    """One line for what cannot be parsed; `--help` has the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="parallax-train",
        description="Train a three-way model, measure it, attack it, export it for the service.",
    )
    stages = parser.add_subparsers(required=True, metavar="STAGE")
    train = stages.add_parser("train", help="train a model, or go on with a run that was stopped")
    train.add_argument("config", type=Path, help="experiment, a TOML file")
    train.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. optimizer.epochs=3")
    train.add_argument("--run", type=Path, help="folder of the run (default: runs/NAME)")
    train.add_argument("--max-steps", type=_at_least(1), help="stop this call after so many steps")
    train.add_argument("--save-every", type=_seconds, default=300.0, metavar="SECONDS")
    _add_device(train)
    train.set_defaults(command="train")

    attack = stages.add_parser("attack", help="write natural and attacked images as PNG files")
    attack.add_argument("checkpoint", type=Path, help="a checkpoint, or the folder of its run")
    attack.add_argument("out", type=Path, help="folder to make; it must be new or empty")
    attack.add_argument("--way", choices=_WAYS, default="standard", help="the way to fool")
    attack.add_argument("--attack", metavar=_ATTACK, help=_ATTACK_HELP)
    _add_images(attack, count=100)
    _add_device(attack)
    attack.set_defaults(command="attack")

    evaluate = stages.add_parser("evaluate", help="measure a model, natural and under attack")
    evaluate.add_argument("checkpoint", type=Path, help="a checkpoint, or the folder of its run")
    evaluate.add_argument(
        "--attack", metavar=_ATTACK, action="append", help=f"{_ATTACK_HELP}; may be repeated"
    )
    evaluate.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="for evaluation.json, .md and what belongs to them, which are replaced (default: "
        "beside the checkpoint); a run that was stopped goes on from what is there",
    )
    evaluate.add_argument(
        "--shard",
        default="1/1",
        metavar="K/N",
        help="do the K-th of N shares, for several processes with one --out, or with what is in it "
        "carried between machines; the last one writes the result",
    )
    _add_data_name(evaluate)
    _add_images(evaluate, count=None, quick=True)
    _add_device(evaluate)
    evaluate.set_defaults(command="evaluate")

    stress = stages.add_parser("stress", help="attack the detector knowing that it is there")
    stress.add_argument("checkpoint", type=Path, help="a checkpoint, or the folder of its run")
    stress.add_argument("--eps", action="append", help="may be repeated (default: the model's own)")
    stress.add_argument(
        "--curve",
        action="store_true",
        help="also an eighth to twice the model's own eps; 0.05 to 0.4 for linf 0.3",
    )
    stress.add_argument("--alarm-eps", default="1/255", help="for attacks that only want alarms")
    stress.add_argument("--steps", type=_at_least(1), default=50, help="of each attack")
    stress.add_argument("--targets", type=_at_least(1), default=3, help="wrong classes to try")
    stress.add_argument("--restarts", type=_at_least(0), default=1, help="random starts of each")
    stress.add_argument(
        "--autoattack",
        nargs="?",
        const="",
        metavar="EPS",
        action="append",
        help="also AutoAttack on two ways, slow; may be repeated (without EPS: the model's own)",
    )
    stress.add_argument(
        "--autoattack-count",
        type=_at_least(1),
        metavar="N",
        help="images at most for it (default: all that are drawn)",
    )
    stress.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="for stress.json, .md and .svg, which are replaced (default: beside the checkpoint)",
    )
    _add_data_name(stress)
    _add_images(stress, count=200)
    _add_device(stress)
    stress.set_defaults(command="stress")

    report = stages.add_parser("report", help="the paper's tables and figures beside ours")
    report.add_argument(
        "evaluations", nargs="*", type=Path, metavar="RUN", help="folders of runs, or evaluations"
    )
    report.add_argument("--paper", action="store_true", required=True, help="the one kind there is")
    report.add_argument(
        "--out",
        type=Path,
        default=Path("docs/reproduction.md"),
        metavar="FILE",
        help="replaced, with its pictures in images/ beside it (default: docs/reproduction.md)",
    )
    report.add_argument(
        "--model", type=Path, help="a checkpoint to draw gradients and inversions of"
    )
    report.add_argument("--inversion-steps", type=_at_least(0), default=1500)
    _add_images(report, count=8)
    _add_device(report)
    report.set_defaults(command="report")

    shift = stages.add_parser("shift", help="count false alarms on corrupted natural images")
    shift.add_argument("checkpoint", type=Path, help="a checkpoint, or the folder of its run")
    shift.add_argument(
        "--corruption",
        metavar="NAME",
        action="append",
        help="e.g. gaussian-noise; may be repeated (default: all)",
    )
    shift.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="for shift.json, .md, .svg and shift-samples.png, which are replaced "
        "(default: beside the checkpoint)",
    )
    _add_data_name(shift)
    _add_images(shift, count=1000)
    _add_device(shift)
    shift.set_defaults(command="shift")

    calibrate = stages.add_parser(
        "calibrate", help="fit score, thresholds and probabilities, and measure what they hold"
    )
    calibrate.add_argument("checkpoint", type=Path, help="a checkpoint, or the folder of its run")
    calibrate.add_argument(
        "--fpr", metavar="RATE", default="0.01", help="default rate of false alarms (default: 0.01)"
    )
    calibrate.add_argument(
        "--policy", choices=["eq12", "score", "strict"], default="eq12", help="default policy"
    )
    calibrate.add_argument(
        "--score", choices=_SCORES, help="default score (default: the best on validation images)"
    )
    calibrate.add_argument(
        "--per-class", action="store_true", help="a threshold for each class of the standard way"
    )
    calibrate.add_argument(
        "--no-head", action="store_true", help="train no detector head, compare the others"
    )
    calibrate.add_argument(
        "--steps", type=_at_least(1), default=30, help="of attacks that know the detector"
    )
    calibrate.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="for calibration.json, .md, plots and detector.npz, which are replaced "
        "(default: beside the checkpoint)",
    )
    _add_data_name(calibrate)
    calibrate.add_argument(
        "--count",
        type=_at_least(1),
        default=500,
        help="images of each split that are attacked, drawn by the seed (default: 500)",
    )
    _add_drawing(calibrate)
    _add_device(calibrate)
    calibrate.set_defaults(command="calibrate")

    rounding = stages.add_parser("round", help="round weights to half precision, to ship half")
    rounding.add_argument("checkpoint", type=Path, help="a checkpoint, or the folder of its run")
    rounding.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="for weights.safetensors, which is replaced (default: float16 beside the checkpoint)",
    )
    rounding.set_defaults(command="round")

    quantise = stages.add_parser("quantise", help="an int8 network for the CPU, beside float32")
    quantise.add_argument("checkpoint", type=Path, help="a checkpoint, or the folder of its run")
    quantise.add_argument(
        "--calibration",
        type=Path,
        help="what `calibrate` wrote (default: beside the checkpoint, where it is there)",
    )
    quantise.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="for int8.onnx, .json, .md and detector.npz, which are replaced (default: int8 beside "
        "the checkpoint)",
    )
    _add_data_name(quantise)
    quantise.add_argument(
        "--count",
        type=_at_least(1),
        default=2000,
        help="test images that are attacked, drawn by the seed (default: 2000)",
    )
    _add_drawing(quantise)
    quantise.set_defaults(command="quantise")

    export = stages.add_parser("export", help="write a model folder that the service accepts")
    export.add_argument("checkpoint", type=Path, help="a checkpoint, or the folder of its run")
    export.add_argument("--name", required=True, help="of the model, e.g. mnist")
    export.add_argument("--version", type=_at_least(1), help="(default: the next one)")
    export.add_argument("--models", type=Path, default=Path("models"), help="(default: models)")
    export.add_argument(
        "--evaluation", type=Path, help="what `evaluate` wrote (default: beside the checkpoint)"
    )
    export.add_argument(
        "--calibration",
        type=Path,
        help="what `calibrate` wrote (default: beside the checkpoint, where it is there)",
    )
    export.add_argument(
        "--ways", default="", help="also write single ways as files, e.g. robust,nonrobust"
    )
    export.add_argument(
        "--int8",
        type=Path,
        nargs="?",
        const=Path(),
        metavar="FILE",
        help="the int8 network that `quantise` made and measured, instead of the float32 one "
        "(without FILE: int8/int8.json beside the checkpoint)",
    )
    export.add_argument("--description", default="", help="one sentence for the card")
    export.set_defaults(command="export")
    return parser


def _add_images(parser: argparse.ArgumentParser, *, count: int | None, quick: bool = False) -> None:
    splits = ["train", "validation", "calibration", "test"]
    every = "all" if count is None else str(count)
    parser.add_argument("--split", choices=splits, default="test")
    number = parser.add_mutually_exclusive_group()
    number.add_argument(
        "--count",
        type=_at_least(1),
        default=count,
        help=f"images at most, drawn by the seed (default: {every})",
    )
    if quick:
        number.add_argument(
            "--quick",
            action="store_const",
            const=_QUICK,
            default=count,
            dest="count",
            help=f"{_QUICK} images at most: under five minutes for the shipped MNIST model on two "
            "CPU cores (where they are busy, with OMP_NUM_THREADS=1)",
        )
    _add_drawing(parser)


def _add_drawing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seed",
        type=_at_least(0, below=2**32),
        default=0,
        help="of the images drawn and the attack",
    )
    parser.add_argument("--data", metavar="SOURCE", help="e.g. mnist:DIR (default: as in training)")
    parser.add_argument("--batch-size", type=_at_least(1), default=250)


def _add_data_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-name",
        metavar="NAME",
        help='what to quote figures with, e.g. "CIFAR-10 (JPEG)"; the paper\'s stand beside those '
        "of MNIST and CIFAR-10 (default: by the source)",
    )


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        choices=["auto", "cpu", "cuda"],
        default="auto",
        help="auto takes CUDA where there is a device",
    )


def _at_least(low: int, *, below: float = math.inf) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value < below:
            limit = "" if below == math.inf else f", below {below}"
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a whole number of {low} or more{limit}"
            )
        return value

    return read


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


if __name__ == "__main__":  # pragma: no cover  # the console script calls main
    sys.exit(main())
