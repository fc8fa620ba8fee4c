"""The state of a training run, one step at a time: model, optimiser, average, and how far it is.

A step's randomness is a function of the seed and the step, so a run that was saved and restored
equals an uninterrupted one bit for bit where the arithmetic itself repeats: on the CPU, with the
same number of threads and processes. Knows no files, no clock and no console.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from training import augment, schedule
from training.checkpoint import (
    Checkpoint,
    Header,
    build_model,
    current_commit,
    flatten_optimizer,
    restore_optimizer,
    shape_of,
    weights_digest,
)
from training.config import Config, ConfigError, OptimizerConfig
from training.data import Images, to_float
from training.distributed import World
from training.errors import TrainingError
from training.objective import Objective, Terms
from training.three_way import ThreeWayModel


class RunError(TrainingError):
    """The run cannot go on; the message says what happened and what was kept."""


Weights = tuple[Tensor, ...] | list[Tensor]

_SEED_STRIDE = 1_000_003  # keeps the generators of neighbouring seeds and steps apart


def make_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """SGD or AdamW; biases and normalisation are decayed too, as in the code the paper follows."""
    if config.name == "sgd":
        return torch.optim.SGD(
            model.parameters(),
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
    return torch.optim.AdamW(
        model.parameters(),
        lr=config.lr,
        betas=(config.momentum, 0.999),
        weight_decay=config.weight_decay,
    )


def moving_average(decay: float) -> Callable[[Weights, Weights, Tensor | int], None]:
    """Exponential moving average whose decay grows with the steps, (1 + n) / (10 + n) at most.

    With a fixed decay of 0.999 a third of the random initial weights would still be in the average
    after a thousand steps.
    """

    @torch.no_grad()
    def update(averaged: Weights, current: Weights, count: Tensor | int) -> None:
        weight = 1.0 - min(decay, (1.0 + float(count)) / (10.0 + float(count)))
        torch._foreach_lerp_(averaged, current, weight)

    return update


def epoch_order(seed: int, epoch: int, count: int) -> Tensor:
    """The epoch's permutation of the training images, a function of seed and epoch alone."""
    generator = torch.Generator().manual_seed(seed * _SEED_STRIDE + epoch)
    return torch.randperm(count, generator=generator)


def _placeless(config: Config) -> Config:
    """Without where the images lie: their hash says better whether they are the same."""
    return replace(config, data=replace(config.data, source=""))


def _differing(one: Config, other: Config) -> list[str]:
    """Keys whose values differ, as they are written in an override."""

    def flat(values: dict[str, Any], head: str = "") -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in values.items():
            name = f"{head}{key}"
            found |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
        return found

    ours, theirs = flat(one.as_dict()), flat(other.as_dict())
    return [key for key in ours if ours[key] != theirs[key]]


class Run:
    """A run of `config` over `images`; `step` counts the optimiser steps taken."""

    def __init__(self, config: Config, images: Images, world: World) -> None:
        """Fresh weights from the config's seed.

        Raises:
            ConfigError: fewer images than one batch, or a batch that has no equal shares.
        """
        batch = config.optimizer.batch_size
        if len(images) < batch:
            raise ConfigError(f"optimizer.batch_size={batch} is more than {len(images)} images")
        if batch % world.size:
            raise ConfigError(
                f"optimizer.batch_size={batch} does not divide among {world.size} processes"
            )
        self.config = config
        self.device = device = world.device
        self._world = world
        self.step = 0
        self.steps_per_epoch = len(images) // batch  # the last, partial batch is dropped
        self.total_steps = self.steps_per_epoch * config.optimizer.epochs
        self._classes = images.classes
        self._shape = shape_of(images)
        self._data_sha256 = images.digest()
        self._commit = current_commit()  # now, as files may change under a long run
        self._earlier: tuple[str, ...] = ()
        self._images = images.to(device)
        self._objective = Objective(config=config, share=world.share)
        torch.manual_seed(config.seed)
        self._model = build_model(config, self._shape, len(images.classes)).to(device)
        world.adapt(self._model, batch // world.size)
        if config.compute.channels_last:
            self._model.to(memory_format=torch.channels_last)
        self._optimizer = make_optimizer(config.optimizer, self._model)
        decay = config.optimizer.ema
        self._average = (
            AveragedModel(self._model, multi_avg_fn=moving_average(decay), use_buffers=False)
            if decay
            else None
        )
        if config.compute.compile:  # after the average was copied, which runs as it is
            for encoder in (self._model.encoder_robust, self._model.encoder_nonrobust):
                encoder.compile(dynamic=False)
        self._order = epoch_order(config.seed, 0, len(images))

    @property
    def model(self) -> ThreeWayModel:
        """The model to use: the averaged one where the config keeps an average."""
        if self._average is None:
            return self._model
        return cast(ThreeWayModel, self._average.module)

    def advance(self) -> Terms:
        """Take one optimiser step and return the losses it saw."""
        config = self.config.optimizer
        epoch, position = divmod(self.step, self.steps_per_epoch)
        if position == 0:
            self._order = epoch_order(self.config.seed, epoch, len(self._images))
        chosen = self._order[position * config.batch_size : (position + 1) * config.batch_size]
        torch.manual_seed(self.config.seed * _SEED_STRIDE + self.step)
        batch = self._images.take(chosen.to(self.device))
        image = augment.random_shift(to_float(batch.pixels), self.config.data.shift)
        if self.config.data.flip:
            image = augment.random_flip(image)
        rate = schedule.learning_rate(config, step=self.step, steps_per_epoch=self.steps_per_epoch)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._model.train()
        ramp = schedule.ramp(self.config.attack.ramp, step=self.step, total=self.total_steps)
        share = (
            self._world.share
        )  # drawn for the whole batch so far, computed for the share from here
        terms = self._objective(self._model, share.of(image), share.of(batch.label), ramp=ramp)
        self._optimizer.zero_grad()
        terms.total.backward()
        terms = self._pooled(terms)
        if config.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._model.parameters(), config.clip_norm)
        self._optimizer.step()
        if self._average is not None:
            self._average.update_parameters(self._model)
        self.step += 1
        return terms

    def _pooled(self, terms: Terms) -> Terms:
        """The whole batch's losses; gradients and running statistics become means of all shares."""
        if self._world.size == 1:
            return terms

        def copied(values: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: value.detach().clone() for name, value in values.items()}

        pooled = Terms(
            total=terms.total.detach().clone(), parts=copied(terms.parts), kept=copied(terms.kept)
        )
        gradients = (weight.grad for weight in self._model.parameters())
        self._world.mean(
            [
                *(gradient for gradient in gradients if gradient is not None),
                *(value for value in self._model.buffers() if value.is_floating_point()),
                *(pooled.total, *pooled.parts.values(), *pooled.kept.values()),
            ]
        )
        return pooled

    def fingerprint(self) -> str:
        """Of what all processes of a run must have in common: images, step, weights."""
        weights = weights_digest(dict(self._model.state_dict()))
        return f"{self._data_sha256} {self.step} {weights}"

    def snapshot(self, *, seconds: float) -> Checkpoint:
        """Everything that `restore` needs, and the provenance. `seconds`: trained so far."""
        averaged = dict(self.model.state_dict())
        return Checkpoint(
            header=Header(
                config=self.config,
                shape=self._shape,
                classes=self._classes,
                step=self.step,
                steps_per_epoch=self.steps_per_epoch,
                seconds=round(seconds, 1),
                commit=self._commit,
                data_sha256=self._data_sha256,
                weights_sha256=weights_digest(averaged),
                device=self._world.hardware,
                torch=torch.__version__,
                earlier=self._earlier,
            ),
            model=dict(self._model.state_dict()),
            averaged=averaged,
            optimizer=flatten_optimizer(self._optimizer, self._model),
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on where `checkpoint` stopped; the images may lie elsewhere than they did.

        Raises:
            ConfigError: it belongs to another experiment or other data, or only ships weights.
        """
        header = checkpoint.header
        if differing := _differing(_placeless(header.config), _placeless(self.config)):
            raise ConfigError(
                f"the checkpoint belongs to another experiment, which differs in "
                f"{', '.join(differing)}; repeat its overrides, or choose another folder with --run"
            )
        if header.data_sha256 != self._data_sha256:
            raise ConfigError("the checkpoint was trained on other images")
        if not checkpoint.model:
            raise ConfigError("the checkpoint holds weights only and cannot be resumed")
        self.step = header.step
        self._earlier = header.earlier
        if header.commit != self._commit:
            self._earlier += (f"{header.commit} to step {header.step}",)
        self._model.load_state_dict(checkpoint.model)
        restore_optimizer(self._optimizer, self._model, checkpoint.optimizer)
        if self._average is not None:
            self._average.module.load_state_dict(checkpoint.averaged)
            self._average.n_averaged.fill_(self.step)
        epoch = self.step // self.steps_per_epoch
        self._order = epoch_order(self.config.seed, epoch, len(self._images))
