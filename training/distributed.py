"""Several processes of one run, a device each, as torchrun starts them; without it, one process.

A `World` says which process this is and lets all of them agree: on a mean, on stopping, on failing.
Gradients are averaged by one message after the backward pass. Knows neither models nor files.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from training.config import ConfigError
from training.device import choose
from training.errors import ToldElsewhere, TrainingError
from training.share import Share, share_dropout


class DistributedError(TrainingError):
    """The processes of a run cannot find each other, lost one, or do not see the same."""


@dataclass(frozen=True, kw_only=True)
class World:
    """Process `rank` of `size`, which computes on `device`; where `size` is 1 nothing is sent.

    All processes must call what waits (all methods but `adapt`) in the same order. One that ended
    without a word makes the next of these calls raise `DistributedError` in the others.
    """

    device: torch.device
    rank: int = 0
    size: int = 1

    def __str__(self) -> str:
        return str(self.device) if self.size == 1 else f"{self.size} x {self.device.type}"

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    @property
    def share(self) -> Share:
        """This process's part of a batch."""
        return Share(rank=self.rank, size=self.size)

    @property
    def hardware(self) -> str:
        """What the run computes on, for people."""
        cuda = self.device.type == "cuda"
        name = torch.cuda.get_device_name(self.device) if cuda else "CPU"
        return name if self.size == 1 else f"{self.size} x {name}"

    def adapt(self, model: nn.Module, images: int) -> None:
        """Let layers see the whole batch where a process sees `images` of it, in place.

        Dropout draws its masks for all of it. On CUDA batch normalisation takes its statistics from
        all of it; torch has no such layer for the CPU, where each share is normalised by its own.
        """
        if self.size == 1:
            return
        share_dropout(model, self.share, images)
        if self.device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(model)

    def mean(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the processes, bit for bit the same in each."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        _reduce(flat, dist.ReduceOp.SUM)
        flat /= self.size
        parts = flat.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def any(self, asked: bool) -> bool:
        """Whether any process asks."""
        return asked if self.size == 1 else self._least(int(not asked)) == [0]

    def agreed(self, text: str) -> bool:
        """Whether all processes hold the same text."""
        if self.size == 1:
            return True
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])
        least, most = self._least(number, -number)
        return least == -most

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """All processes wait for each other at the end, and a known fault within ends them all.

        Raises:
            TrainingError: raised within; of several, that of the lowest rank.
            ToldElsewhere: in all processes but that one.
        """
        if self.size == 1:
            yield
            return
        fault: TrainingError | None = None
        try:
            yield
        except TrainingError as error:
            fault = error
        (first,) = self._least(self.size if fault is None else self.rank)
        if fault is not None and first == self.rank:
            raise fault
        if first < self.size:
            raise ToldElsewhere(f"process {first} says why the run cannot go on")

    @contextlib.contextmanager
    def in_turn(self) -> Iterator[None]:
        """As `together`, but the leading process goes first: it may fetch files for the others."""
        if not self.leads:
            with self.together():
                pass
        with self.together():
            yield
        if self.leads and self.size > 1:
            with self.together():
                pass

    def _least(self, *numbers: int) -> list[int]:
        """Of each number the least among the processes."""
        least = torch.tensor(numbers)  # on the CPU, so that no kernel is waited for
        _reduce(least, dist.ReduceOp.MIN)
        return [int(number) for number in least]


def world_of(environment: Mapping[str, str], device: torch.device) -> World:
    """The world that torchrun's variables describe; without torchrun one process on `device`.

    Only torchrun is believed: schedulers set RANK and WORLD_SIZE around programs that stand alone.

    Raises:
        ConfigError: more processes on this machine than CUDA devices.
    """
    size = int(environment["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in environment else 1
    if size == 1:
        return World(device=device)
    if device.type == "cuda":
        here, devices = int(environment["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
        if here > devices:
            raise ConfigError(
                f"{here} processes on this machine, but {devices} CUDA devices; "
                f"start torchrun with --nproc-per-node {devices}, or take --device cpu"
            )
        device = torch.device("cuda", int(environment["LOCAL_RANK"]))
    return World(device=device, rank=int(environment["RANK"]), size=size)


@contextlib.contextmanager
def opened(name: str) -> Iterator[World]:
    """The world of this process on the device that `--device NAME` chooses; left at the end.

    Gradients travel by nccl between CUDA devices, else by gloo; decisions always by gloo.

    Raises:
        ConfigError: the device is absent, or too few of them.
        DistributedError: the processes do not find each other.
    """
    world = world_of(os.environ, choose(name))
    if world.size == 1:
        yield world
        return
    backend = "gloo"
    if world.device.type == "cuda":
        torch.cuda.set_device(world.device)
        backend = "cpu:gloo,cuda:nccl"
    try:
        dist.init_process_group(backend)
    except (RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise DistributedError(f"the processes do not find each other: {said}") from error
    try:
        yield world
    finally:
        dist.destroy_process_group()


def _reduce(tensor: Tensor, operation: dist.ReduceOp.RedOpType) -> None:
    try:
        dist.all_reduce(tensor, operation)
    except RuntimeError as error:  # gloo's is no narrower
        raise DistributedError(
            "another process of the run ended; what was saved before stays"
        ) from error
