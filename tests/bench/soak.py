"""Resident memory over many requests of all kinds that the service knows: flat, or a leak."""

from itertools import cycle
from pathlib import Path

from tests.bench.contestants import MANY, Contestant
from tests.bench.load import generate
from tests.bench.measurement import started, written
from tests.bench.processes import rss_mib, status
from tests.bench.results import Soak

_TURN_S = 2.0
_CLIENTS = {MANY: 8}  # 32 of others


def soak(contestant: Contestant, requests: int, place: Path) -> Soak:
    """At least so many requests, kinds in turn; warm is what it holds after a tenth of them."""
    with started(contestant) as server:
        kinds = [
            kind
            for kind in contestant.kinds
            if not kind.needs or status(server.port, kind.needs) == 200
        ]
        seen: list[tuple[int, float]] = []
        done = 0
        for kind in cycle(kinds):
            files = written(kind, place)
            done += generate(server.port, files, _CLIENTS.get(kind.name, 32), _TURN_S).answered
            seen.append((done, rss_mib(server.pid)))
            if done >= requests:
                break
    warm = next(point for point in seen if point[0] >= requests / 10)
    return Soak(
        requests=done,
        warm_requests=warm[0],
        warm_mib=warm[1],
        end_mib=seen[-1][1],
        peak_mib=max(mib for _, mib in seen),
    )
