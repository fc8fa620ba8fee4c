"""One contestant under load: started, asked whether it answers rightly, measured row by row.

Nothing is measured of a server that gives wrong answers.
"""

import http.client
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.bench.contestants import BARE, Contestant, Kind
from tests.bench.load import LoadError, generate
from tests.bench.processes import Server, cpu_seconds, family, free_port, resident_mib, status
from tests.bench.results import Trial, Usage
from tests.bench.rows import Row

ROOT = Path(__file__).parents[2]
_WARM_S = 1.0
_TRIAL_S = 2.0
_TRIAL_CLIENTS = 32


class AnswerError(RuntimeError):
    """The server answers, but not what it should."""


@contextmanager
def started(contestant: Contestant) -> Iterator[Server]:
    """The contestant as a running server, from the repository's root."""
    with tempfile.TemporaryDirectory() as folder:
        names = {"{folder}": folder}

        def filled(text: str) -> str:
            return re.sub(
                r"\{(\w*port|folder)\}",
                lambda found: names.setdefault(found[0], str(free_port())),
                text,
            )

        server = Server(
            command=[filled(part) for part in contestant.command],
            env=_environment({name: filled(value) for name, value in contestant.env.items()}),
            port=int(filled("{port}")),
            ready=contestant.ready,
            cwd=ROOT,
        )
        with server:
            yield server


def measured(
    contestant: Contestant,
    place: Path,
    seconds: float,
    clients: Sequence[int],
    tell: Callable[[Row], None],
) -> tuple[list[Row], Usage]:
    """All rows of a contestant, each told as soon as it is there; request files go to `place`."""
    rows = []
    with started(contestant) as server:
        for kind in contestant.kinds:
            blank = Row(
                model=contestant.model,
                server=contestant.name,
                kind=kind.name,
                processes=contestant.processes,
                clients=0,
                images=kind.images,
            )
            present = not kind.needs or status(server.port, kind.needs) == 200
            if present:
                check(server.port, kind)
            files = written(kind, place)
            for count in (count for count in kind.clients if count in clients):
                row = replace(blank, clients=count)
                if present:
                    generate(server.port, files, count, _WARM_S)
                    row = _under_load(row, server, files, seconds)
                else:
                    row = replace(row, note="not there")
                rows.append(row)
                tell(row)
        usage = Usage(
            server=contestant.name,
            model=contestant.model,
            processes=contestant.processes,
            seen=len(family(server.pid)),
            ready_s=server.ready_s,
            memory_mib=resident_mib(server.pid),
        )
    return rows, usage


def knows_workers(python: Path) -> bool:
    """Whether the service can be started as several processes."""
    command = [str(python), "-m", "service.cli", "serve", "--help"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return "--workers" in done.stdout


def trials(contestant: Contestant, place: Path) -> Iterator[Trial]:
    """Each variant at 32 clients for a short time."""
    for variant in contestant.variants:
        with started(with_variant(contestant, variant)) as server:
            files = written(contestant.kinds[0], place)
            generate(server.port, files, _TRIAL_CLIENTS, _WARM_S)
            load = generate(server.port, files, _TRIAL_CLIENTS, _TRIAL_S)
        yield Trial(
            server=contestant.name,
            processes=contestant.processes,
            variant=dict(variant),
            requests_s=load.answered / load.seconds,
        )


def with_variant(contestant: Contestant, variant: Mapping[str, str]) -> Contestant:
    """With its variables set, and no choice left."""
    return replace(contestant, env={**contestant.env, **variant}, variants=({},))


def written(kind: Kind, place: Path) -> list[Path]:
    """The requests as files, for the generator."""
    place.mkdir(parents=True, exist_ok=True)
    files = [place / f"{index}.http" for index in range(len(kind.requests))]
    for file, request in zip(files, kind.requests, strict=True):
        file.write_bytes(request)
    return files


def check(port: int, kind: Kind) -> None:
    """Send each request once.

    Raises:
        AnswerError: a status other than 200, or labels other than the standard way's.
    """
    for index, (request, labels) in enumerate(zip(kind.requests, kind.labels, strict=True)):
        code, body = _exchange(port, request)
        if code != 200:
            raise AnswerError(f"{kind.name} is answered with {code}: {body[:300]!r}")
        if (told := kind.read(body)) != labels:
            raise AnswerError(f"{kind.name}: request {index} is {labels}, not {told}")


def bare(
    python: Path, model: Path, cpus: int, seconds: float, batches: Sequence[int]
) -> Iterator[Row]:
    """Rows of ONNX Runtime alone; their requests are its runs, their clients its callers.

    First one run at a time on as many threads as there are CPUs, which is what servers are held
    against; then as many runs at a time on one thread each, where there are several CPUs.
    """
    script = Path(__file__).with_name("bare.py")
    for threads, callers in dict.fromkeys(((cpus, 1), (1, cpus))):
        command = [*map(str, (python, script, model, threads, callers, seconds, *batches))]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        for line in done.stdout.splitlines():
            found = json.loads(line)
            yield Row(
                model=model.parts[-3],
                server=BARE,
                kind=f"batch {found['batch']}",
                processes=1,
                clients=found["callers"],
                images=found["batch"],
                requests_s=found["runs"] / found["seconds"],
                seconds=found["seconds"],
                server_cpu_s=found["cpu_s"],
                **{name: found[name] for name in ("p50_ms", "p95_ms", "p99_ms")},
            )


def _under_load(row: Row, server: Server, files: Sequence[Path], seconds: float) -> Row:
    before = cpu_seconds(server.pid)
    try:
        load = generate(server.port, files, row.clients, seconds)
    except LoadError as error:
        return replace(row, note=str(error))
    used = cpu_seconds(server.pid) - before
    return replace(
        row,
        requests_s=load.answered / load.seconds,
        p50_ms=load.p50_ms,
        p95_ms=load.p95_ms,
        p99_ms=load.p99_ms,
        seconds=load.seconds,
        server_cpu_s=used,
        generator_cpu_s=load.generator_cpu_s,
        refused=float(load.refused),
    )


def _environment(wanted: Mapping[str, str]) -> dict[str, str]:
    """What servers get: nothing that sets up the service or its libraries from this shell."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PARALLAX_", "OMP_", "PYTHON"))
    }
    return {**kept, **wanted}


def _exchange(port: int, request: bytes) -> tuple[int, bytes]:
    """One request by a connection of its own; status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.connect()
    try:
        connection.sock.sendall(request)
        response = http.client.HTTPResponse(connection.sock, method="POST")
        response.begin()
        return response.status, response.read()
    finally:
        connection.close()
