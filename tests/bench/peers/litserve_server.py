"""LitServe: its API process and one worker that batches. Takes a PNG as base64 in JSON."""

import base64
import os
from typing import Any

import litserve
import numpy as np
from judge import decode, judge, session


class Judge(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.model = session()

    def decode_request(self, request: dict[str, Any]) -> Any:
        return decode(base64.b64decode(request["image"]))

    def batch(self, inputs: list[Any]) -> Any:
        return np.stack(inputs)

    def predict(self, images: Any) -> list[dict[str, Any]]:
        return judge(self.model, images)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


if __name__ == "__main__":
    api = Judge(
        max_batch_size=int(os.environ["MAX_BATCH"]),
        batch_timeout=float(os.environ["DELAY_MS"]) / 1e3,
        api_path="/detect",
    )
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=1,
        fast_queue=os.environ["FAST_QUEUE"] == "1",
    )
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )
