"""ONNX files on the CPU, in the runtime that the service has: what they answer and how fast.

Knows neither the contract nor torch: one input of images, outputs by name.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

VERSION: str = onnxruntime.__version__

Floats = NDArray[np.float32]

_IMAGES = 32  # in a turn, at least
_QUIET = 3  # errors only: the runtime tells of each pattern that it does not know


def run(path: Path, image: Floats, batch: int = 64) -> dict[str, Floats]:
    """All outputs by name for images (N, C, H, W), in batches of `batch`."""
    session = _open(path, threads=0)
    name, names = _names(session)
    parts = [
        session.run(names, {name: image[start : start + batch]})
        for start in range(0, len(image), batch)
    ]
    return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(names)}


def images_per_second(
    paths: Mapping[str, Path], image: Floats, *, rounds: int = 15
) -> dict[str, float]:
    """Of one batch (N, C, H, W) on one thread, by its CPU time: the median of `rounds`.

    The files take turns, so that what else the machine does slows them all alike; a small batch is
    run several times a turn.
    """
    repeats = -(-_IMAGES // len(image))
    sessions = {key: _open(path, threads=1) for key, path in paths.items()}
    taken: dict[str, list[float]] = {key: [] for key in paths}
    for _ in range(rounds + 1):
        for key, session in sessions.items():
            name, names = _names(session)
            began = time.process_time()
            for _ in range(repeats):
                session.run(names, {name: image})
            taken[key].append(time.process_time() - began)
    return {
        key: repeats * len(image) / float(np.median(several[1:])) for key, several in taken.items()
    }


def _open(path: Path, *, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads  # 0: as many as there are cores
    options.log_severity_level = _QUIET
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _names(session: onnxruntime.InferenceSession) -> tuple[str, Sequence[str]]:
    return session.get_inputs()[0].name, [output.name for output in session.get_outputs()]
