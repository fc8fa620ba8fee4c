"""A network at one batch size, its arrays in memory that stays where it is: what a GPU wants.

Input and outputs lie on the device and are bound once, so that a run copies the images and the
answers and allocates nothing; a CUDA graph, which repeats the very same addresses, needs that too.
Fewer images than the size are filled up with black ones, whose answers are dropped. Knows the
runtime; neither which sizes there are nor what the outputs mean.
"""

import threading
from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

GRAPH_ID = "gpu_graph_id"  # of a run: which CUDA graph it records or repeats
NO_GRAPH = "-1"

Array = NDArray[np.float32]


def padded_sizes(largest: int) -> tuple[int, ...]:
    """Powers of two below `largest`, and itself: at most half of a run is filled up."""
    return (*(1 << bit for bit in range((largest - 1).bit_length())), largest)


class Bound:
    """One size. `run` may be called from any thread; runs of one size wait for each other."""

    def __init__(
        self,
        session: ort.InferenceSession,
        device: str,
        name: str,
        shape: tuple[int, ...],
        outputs: Mapping[str, tuple[int, ...]],
    ) -> None:
        """The input `name` of `shape` (N, ...) and float32 outputs, (N, ...) each, by name.

        `device` is the runtime's word, "cpu" or "cuda".
        """
        self._session = session
        self._staged = np.zeros(shape, np.float32)
        self._input = _array(shape, device)
        self._outputs = {output: _array(like, device) for output, like in outputs.items()}
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(name, self._input)
        for output, value in self._outputs.items():
            self._binding.bind_ortvalue_output(output, value)
        self._options = ort.RunOptions()
        self._options.add_run_config_entry(GRAPH_ID, str(shape[0]))
        self._lock = threading.Lock()

    def run(self, batch: Array, outputs: Sequence[str]) -> dict[str, Array]:
        """Answers to (n, ...) images, n no more than the size, (n, ...) each."""
        count = len(batch)
        with self._lock:
            self._staged[:count] = batch
            self._staged[count:] = 0.0
            self._input.update_inplace(self._staged)
            self._binding.synchronize_inputs()
            self._session.run_with_iobinding(self._binding, self._options)
            self._binding.synchronize_outputs()
            return {name: self._outputs[name].numpy()[:count].copy() for name in outputs}


def _array(shape: tuple[int, ...], device: str) -> ort.OrtValue:
    return ort.OrtValue.ortvalue_from_shape_and_type(list(shape), np.float32, device, 0)
