"""Several processes of one run on this machine, with what torchrun would have told them.

They are forked from a server that has imported what takes long, so that a crew costs a tenth of a
second and the first one a few.
"""

import multiprocessing
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch

from training.distributed import opened
from training.errors import TrainingError

_IMPORTED = [__name__, "pytest", "tests.training.tiny", "training.train"]  # by the server
_PATIENCE = 60.0  # seconds; a crew that hangs fails its test


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a process came to: its result, or the kind and the text of the fault it ended with."""

    result: Any = None
    kind: str = ""
    text: str = ""


def crew(work: Callable[..., Any], *arguments: object, size: int = 2) -> list[Told | None]:
    """`work(world, *arguments)` in each of `size` processes; None for one that died."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    processes, ends = [], []
    for rank in range(size):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_member, args=(sender, rank, size, port, work, arguments))
        process.start()
        sender.close()
        processes.append(process)
        ends.append(receiver)
    try:
        return [_heard(end) for end in ends]
    finally:
        for process, end in zip(processes, ends, strict=True):
            process.join(_PATIENCE)
            process.kill()
            process.join()
            process.close()
            end.close()


def _heard(end: Connection) -> Told | None:
    assert end.poll(_PATIENCE), "a process hangs"
    try:
        told: Told = end.recv()
    except EOFError:
        return None
    return told


def _member(
    sender: Connection,
    rank: int,
    size: int,
    port: int,
    work: Callable[..., Any],
    arguments: tuple[object, ...],
) -> None:
    os.environ |= {
        "TORCHELASTIC_RUN_ID": "crew",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)
    try:
        with opened("cpu") as world:
            told = Told(result=work(world, *arguments))
    except TrainingError as error:
        told = Told(kind=type(error).__name__, text=str(error))
    sender.send(told)
