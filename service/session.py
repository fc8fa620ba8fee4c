"""One ONNX model ready to run. With `service.bound` the only file that imports onnxruntime.

Chooses the execution provider and the thread count, checks what the runtime really gave, optimises
the network or takes it optimised, warms up. Knows neither files nor batching nor what the outputs
mean.
"""

import ctypes
import logging
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.bound import GRAPH_ID, NO_GRAPH, Bound, padded_sizes
from service.cpus import usable_cpus
from service.errors import ProviderAbsent
from service.graph_cache import GRAPH_FILE, WEIGHTS_FILE, KeptGraph

Provider = Literal["auto", "cpu", "cuda"]
Arrays = dict[str, NDArray[np.float32]]

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
RUNTIME_VERSION: str = ort.__version__

_QUIET = 4  # fatal only: what fails is raised as well, and told once in our own words
_WARM_UP_S = 0.25  # for the sizes beyond the least and the largest, on the CPU
_LIGHT_S = 0.005  # for an image on one thread
_REPEATS = 3  # a CUDA graph is recorded in the first runs and repeated from then on
_SAME = 1e-3  # of outputs, absolute and relative, with and without binding

log = logging.getLogger(__name__)


class SessionError(Exception):
    """The runtime refuses the model; the message is the runtime's reason on one line."""


class Session:
    """A loaded model. `run` may be called from any thread."""

    def __init__(
        self,
        model: bytes,
        *,
        provider: Provider,
        threads: int | None = None,
        cpus: int | None = None,
        kept: KeptGraph | None = None,
        cuda_graphs: bool = False,
    ) -> None:
        """`kept` is where the optimised network is taken from, or put, on the CPU.

        `threads` are those of one run, of `cpus` that may be used (else all of this process). Where
        none are given, a network that answers an image at once gets one thread a run, and as many
        runs at once as there are CPUs, for threads that share so little work wait for each other;
        a slow one gets all in one run, so that a single image is not slower than it must be.

        Raises:
            ProviderAbsent: `cuda` was asked for and cannot be had.
            SessionError: the bytes are not a model that the runtime can load.
        """
        cpus = cpus or usable_cpus()
        missing = cuda_missing()
        if provider == "cuda" and missing:
            raise ProviderAbsent(missing)
        wants_cuda = provider != "cpu" and not missing
        self.from_cache = False
        self._plainly: ort.RunOptions | None = None
        self._bound: dict[int, Bound] = {}

        def open_with(count: int) -> None:
            optimised = None if kept is None or wants_cuda else _kept(model, count, kept)
            self.threads = count
            self.from_cache = optimised is not None
            self._session = optimised or _open(
                model, count, cuda=wants_cuda, graphs=wants_cuda and cuda_graphs
            )

        open_with(threads or (cpus if wants_cuda else 1))
        if threads is None and cpus > self.threads and not self._is_light():
            open_with(cpus)
        self.provider: str = self._session.get_providers()[0]
        if provider == "cuda" and self.provider != CUDA:
            raise ProviderAbsent("the runtime fell back to another one; its CUDA libraries fail")
        if wants_cuda and self.provider != CUDA:
            log.warning("there is a CUDA device, but its libraries fail: running on the CPU")
        self.runs = 1 if self.provider == CUDA else max(1, cpus // self.threads)
        self.inputs = {node.name: _shape(node.shape) for node in self._session.get_inputs()}
        self.input_types = {node.name: node.type for node in self._session.get_inputs()}
        self.outputs = tuple(node.name for node in self._session.get_outputs())
        if self.provider == CUDA and cuda_graphs:
            self._plainly = ort.RunOptions()
            self._plainly.add_run_config_entry(GRAPH_ID, NO_GRAPH)

    def _is_light(self) -> bool:
        """Whether one thread answers a single image within _LIGHT_S."""
        nodes = self._session.get_inputs()
        shapes = [_shape(node.shape)[1:] for node in nodes]
        if any(size is None for shape in shapes for size in shape):
            return False
        feed = {
            node.name: np.zeros((1, *(size or 0 for size in shape)), np.float32)
            for node, shape in zip(nodes, shapes, strict=True)
        }
        seconds = []
        try:
            for _ in range(_REPEATS):  # the first allocates
                began = time.perf_counter()
                self._session.run(None, feed)
                seconds.append(time.perf_counter() - began)
        except Exception as error:  # the runtime's exceptions share no base class of their own
            log.debug("a single image cannot be timed: %s", _one_line(error))
            return False
        return min(seconds) <= _LIGHT_S

    def run(self, name: str, batch: NDArray[np.float32], outputs: Sequence[str]) -> Arrays:
        """Feed (N, ...) to the input `name`; the asked outputs by name, (N, ...) each.

        Raises:
            SessionError: the run failed.
        """
        size = next((size for size in self._bound if size >= len(batch)), None)
        try:
            if size is not None:
                return self._bound[size].run(batch, outputs)
            values = self._session.run(list(outputs), {name: batch}, self._plainly)
        except Exception as error:  # the runtime's exceptions share no base class of their own
            raise SessionError(_one_line(error)) from error
        return dict(zip(outputs, values, strict=True))

    def warm_up(self, name: str, shape: tuple[int, ...], largest: int) -> None:
        """Run zeros (N, *shape) at the sizes up to `largest`, so that no request pays for a first.

        On the CPU the largest and 1, then the others for as long as _WARM_UP_S lasts: memory grows
        with the largest, and a new size costs next to nothing after it. On CUDA arrays are bound at
        few sizes, and batches filled up to them.

        Raises:
            SessionError: a run failed.
        """
        if self.provider == CUDA:
            self.bind(name, shape, largest, "cuda")
            return
        began = time.perf_counter()
        few = padded_sizes(largest)
        for place, size in enumerate(dict.fromkeys((largest, *few, *range(1, largest)))):
            if place < 2 or time.perf_counter() - began < _WARM_UP_S:
                self.run(name, np.zeros((size, *shape), np.float32), self.outputs)

    def bind(self, name: str, shape: tuple[int, ...], largest: int, device: str) -> None:
        """Bind arrays on `device` at padded sizes; one that answers otherwise is not used.

        Raises:
            SessionError: a run without binding failed.
        """
        noise = np.random.default_rng(0).random((largest, *shape), np.float32)
        bound: dict[int, Bound] = {}
        for size in padded_sizes(largest):
            batch = noise[:size]
            plain = self.run(name, batch, self.outputs)
            like = {output: values.shape for output, values in plain.items()}
            try:
                made = Bound(self._session, device, name, batch.shape, like)
                for _ in range(_REPEATS):
                    _check_same(made.run(batch, self.outputs), plain)
            except Exception as error:  # the runtime's exceptions share no base class of their own
                log.warning("arrays of %d images are not bound: %s", size, _one_line(error))
            else:
                bound[size] = made
        self._bound = bound


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


def _open(model: bytes, threads: int, *, cuda: bool, graphs: bool = False) -> ort.InferenceSession:
    providers: list[str | tuple[str, dict[str, str]]] = [CPU]
    if cuda:
        ort.preload_dlls()  # CUDA and cuDNN from their Python packages, where those are installed
        settings = {"use_tf32": "0"}  # TF32 would break parity with training
        providers.insert(0, (CUDA, settings | ({"enable_cuda_graph": "1"} if graphs else {})))
    try:
        return _load(model, _options(threads), providers)
    except SessionError as error:
        if not graphs:
            raise
        log.warning("the network cannot be a CUDA graph: %s", error)
        return _open(model, threads, cuda=cuda)


def _kept(model: bytes, threads: int, kept: KeptGraph) -> ort.InferenceSession | None:
    """The optimised network from where it is kept, put there first where it is absent.

    Its weights, prepacked ones too, are mapped into memory and not copied: several processes hold
    them once. None where it can be neither read nor written.
    """
    folder = kept.find() or kept.keep(partial(_optimise, model, threads))
    if folder is None:
        return None
    options = _options(threads)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return _load(str(folder / GRAPH_FILE), options, [CPU])
    except SessionError as error:
        kept.discard(error)
        return None


def _optimise(model: bytes, threads: int, folder: Path) -> None:
    options = _options(threads)
    options.optimized_model_filepath = str(folder / GRAPH_FILE)
    for name, value in (
        ("optimized_model_external_initializers_file_name", WEIGHTS_FILE),
        ("optimized_model_external_initializers_min_size_in_bytes", "1024"),
        ("save_external_prepacked_constant_initializers", "1"),
    ):
        options.add_session_config_entry(f"session.{name}", value)
    _load(model, options, [CPU])


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _QUIET
    # Threads that spin burn the CPU that decodes the next images.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _load(
    model: bytes | str, options: ort.SessionOptions, providers: Sequence[object]
) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(model, options, providers=providers)
    except Exception as error:  # the runtime's exceptions share no base class of their own
        raise SessionError(_one_line(error)) from error


def _check_same(answers: Arrays, plain: Arrays) -> None:
    for name, values in plain.items():
        if not np.allclose(answers[name], values, rtol=_SAME, atol=_SAME):
            raise SessionError(f"{name} differs from a run without binding")


def _shape(dimensions: Sequence[int | str | None]) -> tuple[int | None, ...]:
    """A named or unknown dimension is dynamic: None."""
    return tuple(size if isinstance(size, int) else None for size in dimensions)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
