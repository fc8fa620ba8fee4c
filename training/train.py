"""The training loop: go on from the checkpoint, step, log, watch, save, stop when asked.

Knows files, the clock and the console; what a step does is `run`'s. Ctrl-C (or SIGTERM) ends the
loop between two steps and leaves a checkpoint that resumes; a second one ends the process at once.
"""

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
from rich.console import Console

from training import checkpoint
from training.attacks.pgd import PGD, frozen
from training.checkpoint import Checkpoint, weights_only
from training.config import Config, parse_eps
from training.data import Images, Splits, to_float
from training.distributed import DistributedError, World
from training.objective import TRAINED_WAYS, Terms
from training.run import Run, RunError
from training.run_log import RunLog, run_log
from training.threat import ThreatModel

_LOG_EVERY = 20  # steps
_WATCHED_IMAGES = 500  # of the validation split, under attack at the end of each epoch
_WATCHED_STEPS = 10
_RUINED = 1e6  # no weight and no sum of cross entropies comes back from here


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Where the run stands; neither `finished` nor `stopped` where `max_steps` were taken."""

    path: Path
    checkpoint: Checkpoint
    finished: bool
    stopped: bool  # by a signal


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Within, the first SIGINT or SIGTERM only makes the yielded function return True."""
    requested: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        requested.append(number)
        restore()

    former = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    try:
        yield lambda: bool(requested)
    finally:
        restore()


def train(
    config: Config,
    splits: Splits,
    folder: Path,
    *,
    world: World,
    console: Console,
    save_every: float = 300.0,
    max_steps: int | None = None,
) -> Outcome:
    """Run `config` in `folder`, going on from its checkpoint where there is one.

    Where `config.keep` is `best`, the weights of the epoch whose robust way withstood most of its
    attack on validation images lie beside it (robust overfitting: Rice et al. 2020).
    `save_every` is in seconds, beside the save at each epoch's end; `max_steps` ends this call
    early. Of several processes all step, and the leading one alone writes, watches and speaks while
    the others wait.

    Raises:
        ConfigError: the folder's checkpoint belongs to another experiment or other data.
        CheckpointError: the folder's checkpoint is damaged.
        RunError: the loss is no longer a number; what was saved before stays.
        DistributedError: the processes do not see the same images and checkpoint, or one ended.
        ToldElsewhere: another process raised one of these.
    """
    path = folder / checkpoint.RUN_FILE
    before = 0.0
    latest: Checkpoint | None = None
    with world.together():
        run = Run(config, splits.train, world)
        if path.exists():
            latest = checkpoint.load(path)
            run.restore(latest)
            before = latest.header.seconds
    with world.together():
        if world.size > 1 and not world.agreed(run.fingerprint()):
            raise DistributedError(
                "the processes do not see the same images and the same checkpoint; "
                f"data.source and {folder} must be places that all of them share"
            )
    if latest is None and world.leads:
        (folder / checkpoint.BEST_FILE).unlink(missing_ok=True)  # of a run that was deleted
    last = run.total_steps if max_steps is None else min(run.total_steps, run.step + max_steps)
    began = saved = time.monotonic()
    terms: Terms | None = None

    def save(*, best: bool = False) -> Checkpoint:
        if terms is not None:
            _check(terms, run.step)
        snapshot = run.snapshot(seconds=before + time.monotonic() - began)
        largest = max(
            float(part.abs().max()) for part in snapshot.model.values() if part.is_floating_point()
        )
        if not largest < _RUINED:  # a NaN is not, either
            raise _diverged(f"a weight is {largest:.3g}", run.step)
        if best:
            checkpoint.save(folder / checkpoint.BEST_FILE, weights_only(snapshot))
        checkpoint.save(path, snapshot)
        return snapshot

    with stop_requests() as stop_requested, contextlib.ExitStack() as opened:
        log: RunLog | None = None
        with world.together():
            if world.leads:
                begun = run_log(folder, step=run.step, total=run.total_steps, console=console)
                log = opened.enter_context(begun)
        while run.step < last and not world.any(stop_requested()):
            started = time.monotonic()
            terms = run.advance()
            with world.together():
                if log is not None:
                    best = _record(log, run, terms, splits.validation, started)
                    if _epoch_ended(run) or time.monotonic() - saved > save_every:
                        latest = save(best=best)
                        saved = time.monotonic()
        with world.together():
            if log is None:
                latest = run.snapshot(seconds=before + time.monotonic() - began)
            elif latest is None or latest.header.step < run.step:
                latest = save()
        finished = run.step >= run.total_steps
        stopped = world.any(stop_requested()) and not finished
    return Outcome(path=path, checkpoint=latest, finished=finished, stopped=stopped)


def _epoch_ended(run: Run) -> bool:
    return run.step % run.steps_per_epoch == 0


def _record(log: RunLog, run: Run, terms: Terms, validation: Images, started: float) -> bool:
    """Log the step that began at `started` where it is due; whether it ends the epoch to keep."""
    if run.step % _LOG_EVERY == 0 or _epoch_ended(run):
        _check(terms, run.step)
        values = _values(terms)
        rate = run.config.optimizer.batch_size / (time.monotonic() - started)
        log.record("train", run.step, {**values, "images_per_second": rate})
        log.advance(run.step, _line(run, values, rate))
    if not _epoch_ended(run):
        return False
    watched = watch(run, validation)
    log.record("validation", run.step, watched)
    log.say(f"epoch {run.step // run.steps_per_epoch:3d}  {_text(watched)}")
    if run.config.keep != "best":
        return False
    known = [_robustness(values) for values in log.recorded("validation")]
    return known[-1] >= max(known)  # all of them rounded as the log has them


def watch(run: Run, images: Images) -> dict[str, float]:
    """Validation accuracy of each trained way, natural and under its own short PGD."""
    config = run.config
    images = images.to(run.device)
    label = images.label
    eps = parse_eps(config.attack.eps)
    attack = PGD(
        threat=ThreatModel(norm=config.attack.norm, eps=eps),
        steps=_WATCHED_STEPS,
        step_size=2.5 * eps / _WATCHED_STEPS,
    )
    values: dict[str, float] = {}
    torch.manual_seed(config.seed)
    with frozen(run.model):
        for way in TRAINED_WAYS[config.method]:
            with torch.no_grad():
                natural = torch.cat(
                    [
                        run.model.way(to_float(part), way).argmax(dim=1)
                        for part in torch.split(images.pixels, _WATCHED_IMAGES)
                    ]
                )
            values[f"{way}_natural"] = float((natural == label).float().mean())
            part, truth = to_float(images.pixels[:_WATCHED_IMAGES]), label[:_WATCHED_IMAGES]
            adversarial = attack(lambda x, way=way: run.model.way(x, way), part, truth)  # type: ignore[misc]  # a default binds the way
            with torch.no_grad():
                attacked = run.model.way(adversarial, way).argmax(dim=1)
            values[f"{way}_attacked"] = float((attacked == truth).float().mean())
    return values


def _robustness(watched: dict[str, float]) -> float:
    """Of the robust way, or of the one way that is trained, [0, 1]."""
    attacked = [value for name, value in watched.items() if name.endswith("_attacked")]
    return watched.get("robust_attacked", attacked[0])


def _check(terms: Terms, step: int) -> None:
    loss = float(terms.total.detach())
    if not math.isfinite(loss) or loss > _RUINED:
        raise _diverged(f"the loss is {loss:.3g}", step)


def _diverged(what: str, step: int) -> RunError:
    return RunError(
        f"{what} at step {step}; the checkpoint before it is kept. "
        "A lower optimizer.lr or an optimizer.clip_norm may help"
    )


def _values(terms: Terms) -> dict[str, float]:
    named = {"loss": terms.total, **{f"loss_{name}": part for name, part in terms.parts.items()}}
    named |= {f"kept_{name}": share for name, share in terms.kept.items()}
    return {name: float(value.detach()) for name, value in named.items()}


def _line(run: Run, values: dict[str, float], rate: float) -> str:
    epoch = run.step / run.steps_per_epoch
    return f"epoch {epoch:.2f}  {_text(values)}  {rate:.0f} images/s"


def _text(values: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in values.items())
