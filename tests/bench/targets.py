"""What the service is held to, and whether a run shows it. Ratios are of rows of the same run."""

from collections.abc import Iterable
from dataclasses import dataclass

from tests.bench.contestants import BARE, HEAVY, MANY, OURS
from tests.bench.results import Results
from tests.bench.rivals import FRAMEWORKS, PLAIN
from tests.bench.rows import Row

_LIGHT = "mnist"


@dataclass(frozen=True)
class Target:
    """`measured` is None where a row that it needs is absent."""

    what: str
    measured: float | None
    bound: float
    form: str  # of both figures
    least: bool = True  # the bound is the least that will do; else the most

    @property
    def met(self) -> bool | None:
        if self.measured is None:
            return None
        return self.measured >= self.bound if self.least else self.measured <= self.bound

    @property
    def cells(self) -> list[str]:
        """Target, bound, measured, met."""
        wanted = f"{'>=' if self.least else '<='} {self.form.format(self.bound)}"
        if self.measured is None:
            return [self.what, wanted, "not measured", ""]
        return [self.what, wanted, self.form.format(self.measured), "yes" if self.met else "no"]


def targets(results: Results) -> list[Target]:
    """In the order of the issue that set them."""
    rows = [row for row in results.rows if not row.note]

    def row(server: str, clients: int, processes: int = 1, model: str = _LIGHT) -> Row | None:
        """Single images as PNG in the body."""
        place = (model, server, "PNG", processes, clients)
        return next((row for row in rows if row.place == place), None)

    def rate(server: str, clients: int, processes: int = 1, model: str = _LIGHT) -> float | None:
        found = row(server, clients, processes, model)
        return None if found is None else found.images_s

    bare, heavy = (
        _best(r.images_s for r in rows if (r.server, r.model, r.clients) == (BARE, model, 1))
        for model in (_LIGHT, HEAVY)
    )
    frameworks = _best(r.images_s for r in rows if r.server in FRAMEWORKS and r.clients == 32)
    many = _best(r.images_s for r in rows if (r.server, r.kind) == (OURS, MANY))
    own, plain = row(OURS, 1), row(PLAIN, 1)
    usage, soak = results.usage(OURS, _LIGHT, 1), results.soak
    return [
        Target(
            "compute-bound model at 32 clients, images/s against bare ONNX Runtime",
            _ratio(rate(OURS, 32, model=HEAVY), heavy),
            0.9,
            "{:.0%}",
        ),
        Target(
            "single images at 32 clients, requests/s against the best framework",
            _ratio(rate(OURS, 32), frameworks),
            2.0,
            "{:.2f} times",
        ),
        *(
            Target(
                f"the same against the thirty-line server, {workers} each",
                _ratio(rate(OURS, 32, processes), rate(PLAIN, 32, processes)),
                1.3,
                "{:.2f} times",
            )
            for processes, workers in ((1, "one process"), (2, "two workers"))
        ),
        Target(
            "64 images in a v2 binary request, images/s against bare ONNX Runtime",
            _ratio(many, bare),
            0.6,
            "{:.0%}",
        ),
        Target(
            "p50 at one client against the thirty-line server's",
            _ratio(own.p50_ms if own else None, plain.p50_ms if plain else None),
            1.5,
            "{:.2f} times",
            least=False,
        ),
        Target(
            "start to ready",
            usage.ready_s if usage else None,
            1.5,
            "{:.2f} s",
            least=False,
        ),
        Target(
            "resident memory with the MNIST model",
            soak.peak_mib if soak else None,
            200.0,
            "{:.0f} MiB",
            least=False,
        ),
        Target(
            f"its growth over {soak.requests if soak else 100_000:,} requests",
            soak.growth if soak else None,
            0.05,
            "{:.1%}",
            least=False,
        ),
    ]


def _best(figures: Iterable[float]) -> float | None:
    return max(figures, default=None)


def _ratio(figure: float | None, other: float | None) -> float | None:
    return figure / other if figure is not None and other else None
