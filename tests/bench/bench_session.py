"""What the runtime does with a network, by how it is loaded and run. Figures for docs/models.md.

    python tests/bench/bench_session.py models/mnist/3 [more model folders]

Loading and memory with and without a cache of optimised networks, two processes at a time; images/s
by threads and spinning, alone and beside a thread that decodes; bound arrays against plain runs.
Ways that are compared take turns in one run, and ratios are of the same round, since a shared
machine is fast and slow by turns.
"""

import argparse
import io
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from service.graph_cache import KeptGraph
from service.manifest import INPUT, MODEL_FILE, OUTPUTS, read_manifest
from service.memory import hand_back
from service.session import Session

_BATCHES = (1, 8, 32)
_PAUSE_S = 0.1  # threads spin on for a while when the run is over
_ROOT = Path(__file__).parents[2]


# --- loading ---


def loaded(folder: Path, cache: Path | None) -> None:
    """In a process of its own: load, run, say how long it took; then what memory it has."""
    network = (folder / MODEL_FILE).read_bytes()
    kept = None if cache is None else KeptGraph(cache, {"model": str(folder)})
    began = time.perf_counter()
    session = Session(network, provider="cpu", kept=kept)
    seconds = time.perf_counter() - began
    del network
    hand_back()
    session.run(INPUT, np.zeros((1, *read_manifest(folder).input.shape), np.float32), OUTPUTS)
    _tell(seconds)
    sys.stdin.readline()
    _tell(_share())
    sys.stdin.readline()


def _tell(number: float) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def _share() -> float:
    """Proportional share of this process's memory, MiB."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def pair(folder: Path, cache: Path | None) -> tuple[list[float], list[float]]:
    """Seconds of loading and MiB of two processes that live at once."""
    command = [sys.executable, __file__, "--load", str(cache or ""), str(folder)]
    environment = os.environ | {"PYTHONPATH": str(_ROOT)}
    processes = []
    seconds = []
    for _ in range(2):
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        processes.append(process)
        seconds.append(float(_say(process, None)))
    shares = [float(_say(process, "\n")) for process in processes]
    for process in processes:
        process.communicate("\n")
    return seconds, shares


def _say(process: "subprocess.Popen[str]", line: str | None) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    if line is not None:
        process.stdin.write(line)
        process.stdin.flush()
    return process.stdout.readline()


def loading(folder: Path, rounds: int) -> Table:
    table = Table(title=f"{folder}: loading, medians of {rounds} rounds of two processes at once")
    for heading in ("cache", "seconds", "least", "MiB of each (Pss)"):
        table.add_column(heading, justify="right")
    with tempfile.TemporaryDirectory() as place:
        ways = {"without": None, "with": Path(place)}
        pair(folder, Path(place))  # fills it
        times: dict[str, list[float]] = {way: [] for way in ways}
        shares: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, cache in ways.items():
                seconds, mib = pair(folder, cache)
                times[way] += seconds
                shares[way] += mib
    for way in ways:
        middle, least = statistics.median(times[way]), min(times[way])
        mib_each = f"{statistics.median(shares[way]):.0f}"
        table.add_row(way, f"{middle:.3f}", f"{least:.3f}", mib_each)
    return table


# --- running ---


class Decoder:
    """A thread that decodes PNGs while it is entered, as the service's do."""

    def __init__(self) -> None:
        levels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(levels).save(file, "PNG")
        self._data = file.getvalue()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self.decoded = 0

    def __enter__(self) -> "Decoder":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._ending.is_set():
            Image.open(io.BytesIO(self._data)).load()
            self.decoded += 1


def _session(network: bytes, threads: int, spinning: bool) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    return ort.InferenceSession(network, options, providers=["CPUExecutionProvider"])


def threads_and_spinning(folder: Path, rounds: int, seconds: float) -> Table:
    network = (folder / MODEL_FILE).read_bytes()
    shape = read_manifest(folder).input.shape
    ways = {(n, spin): _session(network, n, spin) for n in (1, 2) for spin in (False, True)}
    table = Table(title=f"{folder}: images/s against 2 threads that do not spin, {rounds} rounds")
    for heading in ("batch", "beside a decoder", "threads", "spin", "ratio", "CPU ratio", "images"):
        table.add_column(heading, justify="right")
    for batch in _BATCHES:
        image = np.random.default_rng(0).random((batch, *shape), np.float32)
        for beside in (False, True):
            rows: dict[tuple[int, bool], list[tuple[float, float]]] = {way: [] for way in ways}
            with Decoder() if beside else nullcontext():
                for turn in range(rounds):
                    order = list(ways)
                    for way in order[turn % len(order) :] + order[: turn % len(order)]:
                        time.sleep(_PAUSE_S)
                        rows[way].append(_rate(ways[way], image, seconds))
            base = rows[2, False]
            for (n, spin), row in rows.items():
                pairs = list(zip(row, base, strict=True))
                table.add_row(
                    *(str(batch), "yes" if beside else "no", str(n), "yes" if spin else "no"),
                    f"{statistics.median(mine[0] / its[0] for mine, its in pairs):.2f}",
                    f"{statistics.median(mine[1] / its[1] for mine, its in pairs):.2f}",
                    f"{statistics.median(mine[0] for mine in row):,.0f}/s",
                )
    return table


def _rate(
    session: ort.InferenceSession, image: NDArray[np.float32], seconds: float
) -> tuple[float, float]:
    """Images a second, and CPU seconds of this process an image."""
    session.run(None, {INPUT: image})
    count, cpu, began = 0, time.process_time(), time.perf_counter()
    while time.perf_counter() - began < seconds:
        session.run(None, {INPUT: image})
        count += len(image)
    return count / (time.perf_counter() - began), (time.process_time() - cpu) / count


def binding(folder: Path, rounds: int) -> Table:
    shape = read_manifest(folder).input.shape
    network = (folder / MODEL_FILE).read_bytes()
    plain, bound = (Session(network, provider="cpu", threads=1) for _ in range(2))
    bound.bind(INPUT, shape, max(_BATCHES), "cpu")
    table = Table(title=f"{folder}: CPU time of plain runs against bound arrays, {rounds} rounds")
    table.add_column("batch", justify="right")
    table.add_column("plain / bound", justify="right")
    for batch in _BATCHES:
        image = np.random.default_rng(0).random((batch, *shape), np.float32)
        runs = [partial(session.run, INPUT, image, OUTPUTS) for session in (plain, bound)]
        pairs = [(_cpu(runs[0]), _cpu(runs[1])) for _ in range(rounds)]
        table.add_row(str(batch), f"{statistics.median(one / two for one, two in pairs):.3f}")
    return table


def _cpu(run: Callable[[], object], least_s: float = 0.05) -> float:
    count, began = 0, time.thread_time()
    while (spent := time.thread_time() - began) < least_s or not count:
        run()
        count += 1
    return spent / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="model folders, NAME/VERSION")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.25, help="of each timed stretch")
    parser.add_argument("--load", help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.load is not None:
        loaded(parsed.folders[0], Path(parsed.load) if parsed.load else None)
        return
    console = Console(width=110)
    for folder in parsed.folders:
        console.print(loading(folder, max(2, parsed.rounds // 3)))
        console.print(threads_and_spinning(folder, parsed.rounds, parsed.seconds))
        console.print(binding(folder, parsed.rounds))


if __name__ == "__main__":
    main()
