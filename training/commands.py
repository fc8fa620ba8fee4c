"""What each subcommand of `parallax-train` does with its parsed options: read, run a stage, report.

Knows the stages and their order of work, not the options' spelling. Each stage is imported by its
own command, so that none pays for another's libraries. Known faults are raised, `cli` prints them.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from training.config import ConfigError, parse_eps
from training.device import choose
from training.predict import WAYS
from training.subject import Opened, Subject, open_checkpoint


def train_command(parsed: argparse.Namespace) -> int:
    """Start or go on with a run; 130 where it was stopped early."""
    from training import config, data, distributed
    from training.train import train

    with distributed.opened(parsed.device) as world:
        console = Console(quiet=not world.leads)
        with world.together():
            experiment = config.load(parsed.config, tuple(parsed.overrides))
        with world.in_turn():
            splits = data.load(experiment.data)
        folder = parsed.run or Path("runs") / experiment.name
        console.print(
            f"{experiment.name}: {experiment.method} on {len(splits.train)} images, {world}, "
            f"{folder}",
            highlight=False,
            soft_wrap=True,
        )
        outcome = train(
            experiment,
            splits,
            folder,
            world=world,
            console=console,
            save_every=parsed.save_every,
            max_steps=parsed.max_steps,
        )
    header = outcome.checkpoint.header
    state = "finished" if outcome.finished else "stopped; the same command goes on"
    console.print(f"{outcome.path}: step {header.step}, {state}", highlight=False, soft_wrap=True)
    return 130 if outcome.stopped else 0


def attack_command(parsed: argparse.Namespace) -> int:
    """Write a folder of natural and attacked images."""
    from training.attacks import setting
    from training.craft import Craft

    asked = setting.parse(parsed.attack) if parsed.attack else None
    subject = _drawn(parsed, _opened(parsed, parsed.checkpoint))
    chosen = asked or setting.usual(subject.header.config.attack)
    craft = Craft(attack=chosen, way=parsed.way, seed=parsed.seed, batch_size=parsed.batch_size)
    console = Console()
    fooled = craft(subject, parsed.out, console)
    console.print(
        f"{parsed.out}: {len(subject.images)} natural images and as many attacked with "
        f"{chosen.name}; {fooled} fool the {parsed.way} way",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def evaluate_command(parsed: argparse.Namespace) -> int:
    """Measure a share or all; where all is there, write the files, print the figures in short."""
    from training import evaluation_table, shard
    from training.attacks import setting
    from training.evaluate import TABLE_FILE, Evaluation, write
    from training.files import ready_folder

    asked = tuple(dict.fromkeys(setting.parse(text) for text in parsed.attack or ()))
    part = shard.parse(parsed.shard)
    subject = _drawn(parsed, _opened(parsed, parsed.checkpoint))
    evaluation = Evaluation(
        attacks=asked or (setting.usual(subject.header.config.attack),),
        dataset=parsed.data_name,
        seed=parsed.seed,
        batch_size=parsed.batch_size,
    )
    console = Console()
    folder = _out(parsed)
    ready_folder(folder)
    scratch = evaluation.scratch(subject, folder)
    collected = evaluation(subject, scratch, console, part)
    if collected is None:
        return 0
    document = evaluation.document(subject, collected)
    path = write(document, collected.answered, folder)
    scratch.discard()
    lines = [*evaluation_table.summary(document), f"{path} and {TABLE_FILE} beside it"]
    console.print("\n".join(lines), highlight=False, soft_wrap=True)
    return 0


def stress_command(parsed: argparse.Namespace) -> int:
    """Attack, write the files; 1 where a check of the attack failed."""
    from training.attacks import setting
    from training.files import ready_folder
    from training.stress import PLOT_FILE, TABLE_FILE, Stress, write

    asked = tuple(parsed.eps or ())
    for text in (*asked, *filter(None, parsed.autoattack or ()), parsed.alarm_eps):
        if parse_eps(text) == 0:
            raise ConfigError(f"{text!r} is no room for an attack; eps is above 0")
    if parsed.split == "calibration":
        raise ConfigError(
            "the score's thresholds are read from the calibration split; attack another"
        )
    if parsed.autoattack_count is not None and not parsed.autoattack:
        raise ConfigError("--autoattack-count says nothing without --autoattack")
    opened = _opened(parsed, parsed.checkpoint)
    subject = _drawn(parsed, opened)
    folder = _out(parsed)
    ready_folder(folder)
    own = subject.header.config.attack
    autoattack = tuple(text or own.eps for text in parsed.autoattack or ())
    chosen = asked + (setting.curve(own) if parsed.curve else ()) + autoattack
    stress = Stress(
        eps=tuple({parse_eps(text): text for text in chosen or (own.eps,)}.values()),
        dataset=parsed.data_name,
        alarm_eps=parsed.alarm_eps,
        steps=parsed.steps,
        targets=parsed.targets,
        restarts=parsed.restarts,
        autoattack=autoattack,
        autoattack_count=parsed.autoattack_count,
        seed=parsed.seed,
        batch_size=parsed.batch_size,
    )
    calibration = opened.subject("calibration", count=None, seed=parsed.seed)
    console = Console()
    document = stress(subject, console, calibration=calibration.images)
    path = write(document, folder)
    console.print(
        f"{path}, {TABLE_FILE} and {PLOT_FILE} beside it", highlight=False, soft_wrap=True
    )
    failed = [check["name"] for check in document["checks"] if not check["passed"]]
    for name in failed:
        console.print(f"FAILED: {name}; the attack is too weak to trust", soft_wrap=True)
    return int(bool(failed))


def report_command(parsed: argparse.Namespace) -> int:
    """Write the paper's tables with ours."""
    from training.inversion import Inversion
    from training.report import Report, read

    documents = [read(place) for place in parsed.evaluations]
    subject = None
    if parsed.model is not None:
        subject = _drawn(parsed, _opened(parsed, parsed.model))
    report = Report(inversion=Inversion(steps=parsed.inversion_steps, seed=parsed.seed))
    console = Console()
    written = report(documents, parsed.out, subject, console)
    console.print(f"{written[0]}: {len(documents)} evaluations", highlight=False, soft_wrap=True)
    return 0


def shift_command(parsed: argparse.Namespace) -> int:
    """Corrupt natural images, count the alarms, write the report with its pictures."""
    from training.files import ready_folder
    from training.shift import TABLE_FILE, Shift, write

    shift = Shift(
        corruptions=tuple(dict.fromkeys(parsed.corruption or ())),
        dataset=parsed.data_name,
        seed=parsed.seed,
        batch_size=parsed.batch_size,
    )
    opened = _opened(parsed, parsed.checkpoint)
    subject = _drawn(parsed, opened)
    calibration = opened.subject("calibration", count=None, seed=parsed.seed)
    folder = _out(parsed)
    ready_folder(folder)
    console = Console()
    document = shift(subject, calibration, console)
    path = write(document, shift.samples(subject), folder)
    console.print(f"{path} and {TABLE_FILE} beside it", highlight=False, soft_wrap=True)
    return 0


def calibrate_command(parsed: argparse.Namespace) -> int:
    """Calibrate on the model's own splits, write the report, print what came of it."""
    from training import calibration_table
    from training.calibrate import ROUNDS, SPLITS, TABLE_FILE, Calibrate, write
    from training.files import ready_folder

    calibrate = Calibrate(
        count=parsed.count,
        steps=parsed.steps,
        rounds=None if parsed.no_head else ROUNDS,
        per_class=parsed.per_class,
        score=parsed.score,
        policy=parsed.policy,
        fpr=parsed.fpr,
        dataset=parsed.data_name,
        seed=parsed.seed,
        batch_size=parsed.batch_size,
    )
    opened = _opened(parsed, parsed.checkpoint)
    subjects = {split: opened.subject(split, count=None, seed=parsed.seed) for split in SPLITS}
    folder = _out(parsed)
    ready_folder(folder)
    console = Console()
    calibration = calibrate(subjects, console)
    path = write(calibration, folder)
    lines = [*calibration_table.summary(calibration.document), f"{path} and {TABLE_FILE} beside it"]
    console.print("\n".join(lines), highlight=False, soft_wrap=True)
    return 0


def round_command(parsed: argparse.Namespace) -> int:
    """Write rounded weights beside the run's."""
    from training import checkpoint, rounding

    source = checkpoint.of(parsed.checkpoint)
    made = rounding.rounded(checkpoint.load(source))
    path = (parsed.out or source.parent / rounding.FOLDER) / checkpoint.WEIGHTS_FILE
    checkpoint.save(path, made)
    Console().print(
        f"{path}: {rounding.summary(made.averaged)}, {path.stat().st_size / 2**20:.1f} MiB",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def quantise_command(parsed: argparse.Namespace) -> int:
    """Write an int8 network and its report, print what came of it; 1 where it is not to be shipped.

    Like a stress test that failed, it leaves its files.
    """
    from training import calibrate, calibration_document, checkpoint, int8_figures, int8_table
    from training.files import ready_folder
    from training.int8_document import STEM, TABLE_FILE
    from training.quantise import SPLITS, Quantise, write

    source = checkpoint.of(parsed.checkpoint)
    loaded = checkpoint.load(source)
    beside = source.parent / calibrate.JSON_FILE
    place = parsed.calibration or (beside if beside.exists() else None)
    weights = loaded.header.weights_sha256
    basis = None if place is None else calibration_document.read(place, weights)
    opened = open_checkpoint(source, source=parsed.data, device=choose("cpu"))
    subjects = {split: opened.subject(split, count=None, seed=parsed.seed) for split in SPLITS}
    folder = parsed.out or source.parent / STEM
    ready_folder(folder)
    console = Console()
    quantise = Quantise(
        count=parsed.count,
        dataset=parsed.data_name,
        seed=parsed.seed,
        batch_size=parsed.batch_size,
    )
    quantised = quantise(loaded, subjects, basis, console)
    path = write(quantised, folder)
    lines = [*int8_table.summary(quantised.document), f"{path} and {TABLE_FILE} beside it"]
    if basis is None:
        lines.append("not calibrated: the exported model would know Eq. 12 alone")
    console.print("\n".join(lines), highlight=False, soft_wrap=True)
    return int(bool(int8_figures.faults(quantised.document)))


def export_command(parsed: argparse.Namespace) -> int:
    """Write a model folder."""
    from training import calibrate, checkpoint, int8_document
    from training.evaluation_document import JSON_FILE
    from training.export import export

    ways = [way for way in parsed.ways.split(",") if way]
    if unknown := set(ways) - set(WAYS):
        raise ConfigError(f"--ways: {', '.join(sorted(unknown))}; known: {', '.join(WAYS)}")
    place: Path = parsed.checkpoint
    source = checkpoint.of(place)
    int8: Path | None = parsed.int8
    if int8 is not None and (parsed.evaluation or parsed.calibration):
        raise ConfigError("--int8 has an evaluation and a calibration of its own")
    if int8 == Path():
        int8 = source.parent / int8_document.STEM / int8_document.JSON_FILE
    beside = source.parent / calibrate.JSON_FILE
    folder = export(
        source,
        parsed.evaluation or source.parent / JSON_FILE,
        parsed.models,
        name=parsed.name,
        version=parsed.version,
        calibration=parsed.calibration or (beside if beside.exists() else None),
        ways=ways,
        description=parsed.description,
        int8=int8,
    )
    written = ", ".join(sorted(path.name for path in folder.iterdir()))
    manifest = json.loads((folder / "manifest.json").read_text())
    measured, decision = manifest["evaluation"], manifest["decision"]
    figures = measured["metrics"]
    console = Console()
    console.print(f"{folder}: {written}", highlight=False, soft_wrap=True)
    console.print(
        f"natural accuracy {figures['accuracy_standard_natural']:.2%}, false alarms "
        f"{figures['false_alarm_rate']:.2%}, on {measured['n_images']} images of "
        f"{measured['dataset']}",
        highlight=False,
        soft_wrap=True,
    )
    fpr, policy = decision["fpr"], decision["policy"]
    console.print(
        f"policy {policy}, not calibrated"
        if fpr is None
        else f"policy {policy}, score {decision['score']}, threshold at a rate of {fpr}",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def _out(parsed: argparse.Namespace) -> Path:
    place: Path = parsed.checkpoint
    return parsed.out or (place if place.is_dir() else place.parent)


def _opened(parsed: argparse.Namespace, place: Path) -> Opened:
    return open_checkpoint(place, source=parsed.data, device=choose(parsed.device))


def _drawn(parsed: argparse.Namespace, opened: Opened) -> Subject:
    """The images that the options ask for."""
    return opened.subject(parsed.split, count=parsed.count, seed=parsed.seed)


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "train": train_command,
    "attack": attack_command,
    "evaluate": evaluate_command,
    "stress": stress_command,
    "report": report_command,
    "shift": shift_command,
    "calibrate": calibrate_command,
    "round": round_command,
    "quantise": quantise_command,
    "export": export_command,
}
