"""Requests per second and latency of the service, with bare ONNX Runtime beside it, in one run.

Starts the service as a user would, on a free port with the shipped MNIST model, and sends one PNG a
request over kept-alive connections. The load generator shares the machine, so its share of the
processor is printed too.
"""

import argparse
import asyncio
import os
import resource
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import onnxruntime
from rich.console import Console
from rich.table import Table

_MODEL = Path(__file__).parents[2] / "models" / "mnist" / "1"


def bare_rate(batch: int, seconds: float) -> float:
    """Images per second of ONNX Runtime alone on random images."""
    session = onnxruntime.InferenceSession(
        str(_MODEL / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    image = np.random.default_rng(0).random((batch, 1, 28, 28), dtype=np.float32)
    session.run(None, {"image": image})
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        session.run(None, {"image": image})
        done += batch
    return done / (time.perf_counter() - began)


async def client(port: int, request: bytes, until: float, latencies: list[float]) -> None:
    """One connection that sends, waits for the whole answer, and sends again."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        began = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            raise RuntimeError(head.decode())
        length = next(
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length")
        )
        await reader.readexactly(length)
        latencies.append(time.perf_counter() - began)
    writer.close()
    await writer.wait_closed()


async def load(port: int, request: bytes, clients: int, seconds: float) -> list[float]:
    """Latencies in seconds of all answered requests."""
    latencies: list[float] = []
    until = time.perf_counter() + seconds
    await asyncio.gather(*(client(port, request, until, latencies) for _ in range(clients)))
    return latencies


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_ready(port: int, limit: float = 30.0) -> float:
    """Seconds until the service says that it is ready."""
    began = time.perf_counter()
    while time.perf_counter() - began < limit:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=1):
                return time.perf_counter() - began
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.01)
    raise RuntimeError("the service did not become ready")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each row")
    parsed = parser.parse_args()
    console = Console()
    image = next((_MODEL / "samples").rglob("*.png")).read_bytes()
    port = free_port()
    service = subprocess.Popen(
        [sys.executable, "-m", "service.cli", "serve", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PARALLAX_LOG_LEVEL": "warning"},
    )
    try:
        ready = wait_ready(port)
        table = Table(title=f"POST /detect, one PNG a request; ready after {ready:.2f} s")
        for heading in ("clients", "requests/s", "p50 ms", "p95 ms", "p99 ms", "generator CPU"):
            table.add_column(heading, justify="right")
        request = (
            b"POST /detect HTTP/1.1\r\nHost: bench\r\nContent-Type: image/png\r\n"
            b"Content-Length: %d\r\n\r\n" % len(image)
        ) + image
        for clients in (1, 8, 32):
            asyncio.run(load(port, request, clients, 0.5))  # warms up
            before = time.process_time()
            latencies = asyncio.run(load(port, request, clients, parsed.seconds))
            busy = (time.process_time() - before) / parsed.seconds
            cuts = statistics.quantiles(latencies, n=100)
            table.add_row(
                str(clients),
                f"{len(latencies) / parsed.seconds:,.0f}",
                *(f"{1e3 * cuts[i]:.2f}" for i in (49, 94, 98)),
                f"{busy:.0%}",
            )
        console.print(table)
    finally:
        service.terminate()
        service.wait()
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    console.print(f"peak resident memory of the service: {memory:.0f} MiB")
    for batch in (1, 32):
        console.print(f"bare ONNX Runtime, batch {batch}: {bare_rate(batch, 2.0):,.0f} images/s")


if __name__ == "__main__":
    main()
