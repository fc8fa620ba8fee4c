"""The golden inputs of a model folder, and whether a session answers them as the trainer did.

Knows the contract and sessions; neither hashes nor where a model is kept.
"""

import io
from pathlib import Path

import numpy as np

from service import manifest as contract
from service.errors import ModelRefused
from service.manifest import Manifest
from service.session import Arrays, Session

TOLERANCE = 1e-3  # of logits, absolute; of features, absolute and relative


def read_golden(folder: Path, manifest: Manifest, data: bytes) -> Arrays:
    """The arrays of golden.npz, float32, the inputs (n, C, H, W) as the manifest says.

    Raises:
        ModelRefused: it cannot be read, or holds something else.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            golden = {name: np.asarray(file[name]) for name in (contract.INPUT, *contract.OUTPUTS)}
    except KeyError as error:
        raise ModelRefused(folder, f"{contract.GOLDEN_FILE} lacks an array: {error}") from error
    except Exception as error:  # numpy and zipfile raise whatever the bytes provoke
        raise ModelRefused(folder, f"{contract.GOLDEN_FILE} cannot be read") from error
    for name, array in golden.items():
        if array.dtype != np.float32:
            raise ModelRefused(
                folder, f"{contract.GOLDEN_FILE} {name} is {array.dtype}, not float32"
            )
    image = golden[contract.INPUT]
    expected = (len(image) if image.ndim else 0, *manifest.input.shape)
    if image.shape != expected or not len(image):
        raise ModelRefused(
            folder,
            f"{contract.GOLDEN_FILE} image is {image.shape}, "
            f"expected {('n', *manifest.input.shape)}",
        )
    return golden


def check_golden(folder: Path, manifest: Manifest, session: Session, golden: Arrays) -> None:
    """Run the inputs: the same labels, and outputs within TOLERANCE.

    Raises:
        ModelRefused: it answers otherwise.
        SessionError: the run failed.
    """
    answers = session.run(contract.INPUT, golden[contract.INPUT], contract.OUTPUTS)
    n, classes = len(golden[contract.INPUT]), len(manifest.labels)
    for name in contract.OUTPUTS:
        got, want = answers[name], golden[name]
        if name in contract.LOGITS and got.shape != (n, classes):
            raise ModelRefused(folder, f"{name} is {got.shape}, expected {(n, classes)}")
        if got.shape != want.shape:
            raise ModelRefused(folder, f"golden {name} is {want.shape}, the model's {got.shape}")
        relative = 0.0 if name in contract.LOGITS else TOLERANCE
        if not np.allclose(got, want, rtol=relative, atol=TOLERANCE):  # NaN is never close
            worst = float(np.abs(got - want).max())
            raise ModelRefused(folder, f"{name} is off the golden values by {worst:.2g}")
        if name in contract.LOGITS and (got.argmax(axis=1) != want.argmax(axis=1)).any():
            raise ModelRefused(folder, f"{name} gives other labels than the golden values")
