"""A run that never was, for the tests of what is made of one."""

from tests.bench.contestants import BARE, HEAVY, MANY, OURS
from tests.bench.results import Machine, Plan, Results, Soak, Trial, Usage
from tests.bench.rivals import PLAIN
from tests.bench.rows import Row


def row(server: str, kind: str, clients: int, requests_s: float, **other: object) -> Row:
    """One image a request, 4 s, 2 s of the server's time."""
    values = {"model": "mnist", "processes": 1, "images": 1, "p50_ms": 1.0, **other}
    return Row(
        server=server,
        kind=kind,
        clients=clients,
        requests_s=requests_s,
        p95_ms=2.0,
        p99_ms=3.0,
        seconds=4.0,
        server_cpu_s=2.0,
        generator_cpu_s=0.25,
        **values,  # type: ignore[arg-type]  # each has its own type
    )


def results() -> Results:
    """Two rounds; every target can be judged, and half of them are met."""
    one = [
        row(BARE, "batch 32", 1, 300.0, images=32),
        row(BARE, "batch 64", 1, 160.0, images=64),
        row(BARE, "batch 64", 2, 190.0, images=64),
        row(OURS, "PNG", 1, 2000.0, p50_ms=1.2),
        row(OURS, "PNG", 32, 3900.0),
        row(OURS, "PNG", 32, 5000.0, processes=2),
        row(OURS, MANY, 8, 96.0, images=64),
        row(PLAIN, "PNG", 1, 2100.0),
        row(PLAIN, "PNG", 32, 2500.0),
        row(PLAIN, "PNG", 32, 4000.0, processes=2),
        row("LitServe", "PNG in JSON", 32, 1500.0),
        row("MLServer", "v2", 32, 1000.0),
        row(BARE, "batch 16", 1, 5.0, images=16, model=HEAVY),
        row(OURS, "PNG", 32, 76.0, model=HEAVY),
    ]
    usages = [
        Usage(server=OURS, model="mnist", processes=1, seen=1, ready_s=seconds, memory_mib=120.0)
        for seconds in (1.25, 1.5, 4.0)
    ]
    return Results(
        machine=Machine(
            cpu="abacus", cpus=2, memory_gib=24.0, system="Linux 6", python="3.11", load=0.1
        ),
        plan=Plan(generator="wrk", seconds=4, rounds=2, model="mnist/9", quick=False),
        versions={OURS: {"onnxruntime": "1.0"}},
        trials=[
            Trial(server=PLAIN, processes=1, variant={"THREADS": count}, requests_s=rate)
            for count, rate in (("1", 2500.0), ("2", 2000.0))
        ],
        rounds=[*one, *one],
        usages=usages,
        soak=Soak(
            requests=100_100, warm_requests=10_010, warm_mib=130.0, end_mib=143.0, peak_mib=150.0
        ),
    )
