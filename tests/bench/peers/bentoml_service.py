"""BentoML: one worker, adaptive batching unless MAX_BATCH is 1. Takes a PNG as base64 in JSON."""

import base64
import os
from typing import Any

import bentoml
import numpy as np
from judge import decode, judge, session

MAX_BATCH = int(os.environ["MAX_BATCH"])
BATCHING: dict[str, Any] = {
    "batchable": True,
    "max_batch_size": MAX_BATCH,
    "max_latency_ms": int(os.environ["MAX_LATENCY_MS"]),
}


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Judge:
    def __init__(self) -> None:
        self.model = session()

    @bentoml.api(route="/detect", **(BATCHING if MAX_BATCH > 1 else {}))
    async def detect(self, images: list[str]) -> list[dict[str, Any]]:
        pixels = [decode(base64.b64decode(text)) for text in images]
        return judge(self.model, np.stack(pixels))
