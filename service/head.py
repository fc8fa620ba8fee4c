"""The detector head of a model folder: `detector.npz` as a `Head` that is known to fit.

Knows the file's contents; neither its hash nor what the score is used for.
"""

import io
from dataclasses import fields
from pathlib import Path

import numpy as np

from service.errors import ModelRefused
from service.manifest import DETECTOR_FILE
from service.scores import Head


def read_head(folder: Path, data: bytes, inputs: int) -> Head:
    """A head of `inputs` inputs, with the shapes that `service.scores.Head` gives its weights.

    Raises:
        ModelRefused: it cannot be read, or is no such head.
    """

    def refused(reason: str) -> ModelRefused:
        return ModelRefused(folder, f"{DETECTOR_FILE} {reason}")

    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in file.files}
    except Exception as error:  # numpy and zipfile raise whatever the bytes provoke
        raise refused("cannot be read") from error
    names = {field.name for field in fields(Head)}
    if arrays.keys() != names:
        raise refused(f"holds {', '.join(sorted(arrays))}; a head is {', '.join(sorted(names))}")
    units = arrays["hidden_bias"].size
    shapes: dict[str, tuple[int, ...]] = {
        **dict.fromkeys(("mean", "scale"), (inputs,)),
        "hidden_weight": (units, inputs),
        **dict.fromkeys(("hidden_bias", "output_weight"), (units,)),
        "output_bias": (),
    }
    for name, array in arrays.items():
        if array.shape != shapes[name]:
            raise refused(f"{name} is {array.shape}, expected {shapes[name]}")
        if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
            raise refused(f"{name} holds what is no finite number")
    if not (arrays["scale"] > 0).all():
        raise refused("scale is not above 0")
    bias = float(arrays.pop("output_bias"))
    return Head(**arrays, output_bias=bias)
