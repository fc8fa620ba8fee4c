"""One ONNX model ready to run. The only file that imports onnxruntime.

Chooses the execution provider and the thread count, checks what the runtime really gave, warms up.
Knows neither files nor batching nor what the outputs mean.
"""

import ctypes
import logging
import sys
from collections.abc import Sequence
from typing import Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.cpus import usable_cpus
from service.errors import ProviderAbsent

Provider = Literal["auto", "cpu", "cuda"]
Arrays = dict[str, NDArray[np.float32]]

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
RUNTIME_VERSION: str = ort.__version__

_QUIET = 4  # fatal only: what fails is raised as well, and told once in our own words


log = logging.getLogger(__name__)


class SessionError(Exception):
    """The runtime refuses the model; the message is the runtime's reason on one line."""


class Session:
    """A loaded model. `run` may be called from any thread."""

    def __init__(self, model: bytes, *, provider: Provider, threads: int | None = None) -> None:
        """
        Raises:
            ProviderAbsent: `cuda` was asked for and cannot be had.
            SessionError: the bytes are not a model that the runtime can load.
        """
        self.threads = threads or usable_cpus()
        missing = cuda_missing()
        if provider == "cuda" and missing:
            raise ProviderAbsent(missing)
        wants_cuda = provider != "cpu" and not missing
        self._session = _open(model, self.threads, cuda=wants_cuda)
        self.provider: str = self._session.get_providers()[0]
        if provider == "cuda" and self.provider != CUDA:
            raise ProviderAbsent("the runtime fell back to another one; its CUDA libraries fail")
        if wants_cuda and self.provider != CUDA:
            log.warning("there is a CUDA device, but its libraries fail: running on the CPU")
        self.inputs = {node.name: _shape(node.shape) for node in self._session.get_inputs()}
        self.input_types = {node.name: node.type for node in self._session.get_inputs()}
        self.outputs = tuple(node.name for node in self._session.get_outputs())

    def run(self, name: str, batch: NDArray[np.float32], outputs: Sequence[str]) -> Arrays:
        """Feed (N, ...) to the input `name`; the asked outputs by name, (N, ...) each.

        Raises:
            SessionError: the run failed.
        """
        try:
            values = self._session.run(list(outputs), {name: batch})
        except Exception as error:  # the runtime's exceptions share no base class of their own
            raise SessionError(_one_line(error)) from error
        return dict(zip(outputs, values, strict=True))

    def warm_up(self, name: str, shape: tuple[int, ...], sizes: Sequence[int]) -> None:
        """Run zeros of every batch size, so that the first request pays for no allocation."""
        for size in sizes:
            self.run(name, np.zeros((size, *shape), np.float32), self.outputs)


def cuda_missing() -> str | None:
    """Why CUDA cannot be used, or None where it should work.

    The GPU build of the runtime lists its CUDA provider on every machine and complains on stderr
    when it is opened without a device, so the driver is asked first.
    """
    if CUDA not in ort.get_available_providers():
        return "this onnxruntime was built without it"
    count = ctypes.c_int(0)
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        found = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    except (OSError, AttributeError):
        return "there is no NVIDIA driver on this machine"
    return None if found and count.value > 0 else "the NVIDIA driver finds no device"


def _open(model: bytes, threads: int, *, cuda: bool) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _QUIET
    # spinning threads burn the CPU that decodes the next images
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers: list[str | tuple[str, dict[str, str]]] = [CPU]
    if cuda:
        ort.preload_dlls()  # CUDA and cuDNN from their Python packages, where those are installed
        providers.insert(0, (CUDA, {"use_tf32": "0"}))  # TF32 would break parity with training
    try:
        return ort.InferenceSession(model, options, providers=providers)
    except Exception as error:  # the runtime's exceptions share no base class of their own
        raise SessionError(_one_line(error)) from error


def _shape(dimensions: Sequence[int | str | None]) -> tuple[int | None, ...]:
    """A named or unknown dimension is dynamic: None."""
    return tuple(size if isinstance(size, int) else None for size in dimensions)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
