"""ONNX Runtime alone, what no server can beat: images a second at each batch size.

`python bare.py MODEL THREADS SECONDS BATCH...` prints one JSON object a line. It runs in the
service's environment, so that both have the same runtime, and with the runtime's own defaults but
for the number of threads, which spin while they wait as the service's do not.
"""

import json
import sys
import time
from typing import Any

import numpy as np
import onnxruntime


def measure(session: Any, batch: int, seconds: float) -> dict[str, float]:
    """Runs one after another on random images, at least three."""
    node = session.get_inputs()[0]
    shape = (batch, *node.shape[1:])
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    session.run(None, {node.name: image})
    taken: list[float] = []
    busy, began = time.process_time(), time.perf_counter()
    while time.perf_counter() - began < seconds or len(taken) < 3:
        start = time.perf_counter()
        session.run(None, {node.name: image})
        taken.append(1e3 * (time.perf_counter() - start))
    whole = time.perf_counter() - began
    p50, p95, p99 = np.percentile(taken, (50, 95, 99)).tolist()
    return {
        "batch": batch,
        "runs": len(taken),
        "seconds": whole,
        "cpu_s": time.process_time() - busy,
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
    }


def main() -> None:
    model, threads, seconds, *batches = sys.argv[1:]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    for batch in map(int, batches):
        sys.stdout.write(json.dumps(measure(session, batch, float(seconds))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
