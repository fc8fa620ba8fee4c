"""What is measured: one row for a server, a kind of request and a number of clients.

Knows how rows of several rounds become one, not how they came about.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from statistics import median


@dataclass(frozen=True, kw_only=True)
class Row:
    """Figures are absent where there is a note that says why.

    CPU times are seconds of processor in `seconds` of clock, the server's with all its processes.
    """

    model: str
    server: str
    kind: str
    processes: int
    clients: int
    images: int  # in one request
    note: str = ""
    requests_s: float = 0.0
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    p99_ms: float = 0.0
    seconds: float = 0.0
    server_cpu_s: float = 0.0
    generator_cpu_s: float = 0.0
    refused: float = 0.0  # requests of status 400 and up, which no other figure counts

    @property
    def images_s(self) -> float:
        return self.requests_s * self.images

    @property
    def cpu_us(self) -> float:
        """The server's processor time for one image, in microseconds."""
        done = self.images_s * self.seconds
        return 1e6 * self.server_cpu_s / done if done else 0.0

    @property
    def place(self) -> tuple[str, str, str, int, int]:
        """What makes it the same row in another round."""
        return self.model, self.server, self.kind, self.processes, self.clients


_FIGURES = tuple(field.name for field in fields(Row) if field.type is float)


def medians(rows: Iterable[Row]) -> list[Row]:
    """Each place once, where it came first, each figure the median of its rounds."""
    places: dict[tuple[str, str, str, int, int], list[Row]] = {}
    for row in rows:
        places.setdefault(row.place, []).append(row)
    return [
        replace(same[0], **{name: median(getattr(row, name) for row in same) for name in _FIGURES})
        for same in places.values()
    ]
