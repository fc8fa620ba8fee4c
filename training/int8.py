"""A float32 network as one of 8-bit integers, by ONNX Runtime's own quantiser.

Convolutions, and what lies between them, are computed in integers: weights by channel, activations
by the range that they have on given images. Linear layers stay float32: they are a few percent of
the arithmetic, and representations and logits come straight out of them. Weights have 7 bits of the
8: processors without VNNI add up products of 8-bit numbers in 16 bits, where the sum of two may
overflow, and a network would answer otherwise there than where it was measured.

Makes one file of another; measures nothing.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

OPERATORS = ("Conv", "Relu", "MaxPool")

_BATCH = 50


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime publishes no types
    def __init__(self, image: NDArray[np.float32]) -> None:
        self._batches: Iterator[NDArray[np.float32]] = (
            image[start : start + _BATCH] for start in range(0, len(image), _BATCH)
        )

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"image": batch}


def quantise(source: Path, target: Path, image: NDArray[np.float32]) -> None:
    """Write `target`: the network of `source` with the ranges that it has on images (N, C, H, W).

    The same file and images give the same bytes. Inputs and outputs stay what they were.
    """
    with TemporaryDirectory() as place:
        folded = Path(place) / "folded.onnx"
        quant_pre_process(str(source), str(folded), skip_symbolic_shape=True)
        quantize_static(
            str(folded),
            str(target),
            _Reader(image),
            op_types_to_quantize=list(OPERATORS),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
