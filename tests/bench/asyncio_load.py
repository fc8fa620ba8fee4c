"""The load generator for machines without wrk: the same arguments, the same last line.

`python -m tests.bench.asyncio_load PORT CLIENTS SECONDS FILE...`; a file is a whole HTTP request.
Slower than wrk by much, so that it takes more of the cores that the server could have.
"""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path


@dataclass
class _Seen:
    """What all connections saw together; latencies in seconds."""

    latencies: list[float] = field(default_factory=list)
    refused: int = 0
    broken: int = 0


async def _connection(port: int, requests: Iterator[bytes], until: float, seen: _Seen) -> None:
    """Sends, waits for the whole answer, and sends again."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while time.perf_counter() < until:
            began = time.perf_counter()
            writer.write(next(requests))
            head = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
            length = next(
                int(line.split(b":")[1]) for line in head if line.startswith(b"content-length")
            )
            await reader.readexactly(length)
            seen.latencies.append(time.perf_counter() - began)
            seen.refused += int(head[0].split(b" ")[1]) > 399
    except (OSError, EOFError):
        seen.broken += 1
    finally:
        writer.close()


async def _load(port: int, requests: list[bytes], clients: int, seconds: float) -> _Seen:
    seen, shared = _Seen(), cycle(requests)
    until = time.perf_counter() + seconds
    await asyncio.gather(*(_connection(port, shared, until, seen) for _ in range(clients)))
    return seen


def main() -> None:
    port, clients, seconds, *files = sys.argv[1:]
    began = time.perf_counter()
    requests = [Path(file).read_bytes() for file in files]
    seen = asyncio.run(_load(int(port), requests, int(clients), float(seconds)))
    cuts = [1e6 * cut for cut in statistics.quantiles(seen.latencies or [0.0, 0.0], n=100)]
    found = {
        "generator": "asyncio",
        "requests": len(seen.latencies),
        "refused": seen.refused,
        "broken": seen.broken,
        "duration": 1e6 * (time.perf_counter() - began),
        "p50": cuts[49],
        "p95": cuts[94],
        "p99": cuts[98],
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
