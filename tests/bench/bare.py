"""ONNX Runtime alone: images a second at each batch size, without a server around it.

`python bare.py MODEL THREADS CALLERS SECONDS BATCH...` prints one JSON object a line. Each of the
callers has a run of its own on so many threads. It is run in the service's environment, so that
both have the same runtime, and with the runtime's own defaults but for the threads.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime


def measure(session: Any, callers: int, batch: int, seconds: float) -> dict[str, float]:
    """Runs one after another on random images, at least three of each caller."""
    node = session.get_inputs()[0]
    image = np.random.default_rng(0).random((batch, *node.shape[1:]), dtype=np.float32)
    session.run(None, {node.name: image})

    def call() -> list[float]:
        taken: list[float] = []
        while time.perf_counter() - began < seconds or len(taken) < 3:
            start = time.perf_counter()
            session.run(None, {node.name: image})
            taken.append(1e3 * (time.perf_counter() - start))
        return taken

    busy, began = time.process_time(), time.perf_counter()
    with ThreadPoolExecutor(callers) as pool:
        futures = [pool.submit(call) for _ in range(callers)]
        taken = [one for future in futures for one in future.result()]
    whole = time.perf_counter() - began
    p50, p95, p99 = np.percentile(taken, (50, 95, 99)).tolist()
    return {
        "batch": batch,
        "callers": callers,
        "runs": len(taken),
        "seconds": whole,
        "cpu_s": time.process_time() - busy,
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
    }


def main() -> None:
    model, threads, callers, seconds, *batches = sys.argv[1:]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    for batch in map(int, batches):
        found = measure(session, int(callers), batch, float(seconds))
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
