"""What every peer does with an image, so that they differ in serving alone: decode, run, answer.

Runs in the peers' environments, which hold neither Parallax nor torch. The model, its threads and
the image mode come from the environment, as each framework starts its processes in its own way.
"""

import io
import os
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

WAYS = ["logits_standard", "logits_robust", "logits_nonrobust"]


def session() -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ["THREADS"])
    return onnxruntime.InferenceSession(
        os.environ["MODEL"], options, providers=["CPUExecutionProvider"]
    )


def decode(png: bytes) -> Any:
    """(1, 28, 28) in [0, 1]."""
    levels = np.asarray(Image.open(io.BytesIO(png)).convert("L"), np.float32)
    return levels[None] / 255


def judge(model: Any, images: Any) -> list[dict[str, Any]]:
    """One run for (N, 1, 28, 28): label, its probability, and whether the ways agree, of each."""
    logits = model.run(WAYS, {"image": images})
    labels = np.stack([way.argmax(1) for way in logits])
    powers = np.exp(logits[0] - logits[0].max(1, keepdims=True))
    probability = (powers / powers.sum(1, keepdims=True)).max(1)
    agree = (labels == labels[0]).all(0)
    return [
        {"label": int(label), "probability": float(share), "agree": bool(same)}
        for label, share, same in zip(labels[0], probability, agree, strict=True)
    ]
