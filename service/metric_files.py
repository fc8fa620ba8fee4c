"""Metrics of several processes in files that all of them read: prometheus_client's own format.

A process has a name that its successor takes over, so counters go on where they stood and files do
not pile up; the gauges of the dead are cleared. Room is taken by writing zeros before it is mapped:
a mapped page that a full disk cannot hold would kill the process that writes to it. A value without
room lives in memory and is missing from the sum; nothing here ever fails an answer. Knows files and
values; no metric by name.
"""

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import ClassVar

from prometheus_client import values
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

from service.errors import MetricsUnwritable

_MEMORY = Path("/dev/shm")  # a disk would be written to with every request
_ADDED = ("counter", "histogram")
_LIVE = ("gauge_livesum", "gauge_livemax", "gauge_livemin")
_ROOM = 1 << 18  # bytes of a new file, about a thousand values; more is taken when needed
_BLOCK = 1 << 16

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MetricFiles:
    """A folder with a file for each process and kind of metric."""

    folder: Path

    def prepare(self, process: str) -> None:
        """Room for all files of a process.

        Raises:
            OSError: there is none.
        """
        for kind in (*_ADDED, *_LIVE):
            _make(self.file(kind, process))

    @contextmanager
    def adopted(self, process: str) -> Iterator[None]:
        """Every metric that is made within lives in the files of this process, and ends with it.

        The library takes the kind of its values from a global; this is the only place that sets it.
        """
        opened, before = _OpenFiles(self, process), values.ValueClass
        values.ValueClass = type("Value", (_Value,), {"files": opened})
        try:
            yield
        finally:
            values.ValueClass = before
            opened.close()

    def end(self, process: str) -> None:
        """The process is dead: it holds nothing any more, but what it counted stays."""
        for kind in (*_ADDED, *_LIVE):
            file = self.file(kind, process)
            if kind in _LIVE or not _whole(file):
                with contextlib.suppress(OSError):
                    file.unlink(missing_ok=True)

    def collect(self) -> dict[str, Metric]:
        """All metrics by name, over all processes: sums, or what the kind of a gauge says."""
        files = sorted(self.folder.glob("*.db"))
        try:
            return _merged(files)
        except Exception:
            log.exception("a file of metrics is broken")
            return _merged([file for file in files if _whole(file)])

    def file(self, kind: str, process: str) -> Path:
        """Where a process keeps its metrics of a kind."""
        return self.folder / f"{kind}_{process}.db"


@contextmanager
def metric_files(processes: Sequence[str]) -> Iterator[MetricFiles]:
    """Room for these processes, in memory where there is any; gone afterwards.

    Raises:
        MetricsUnwritable: there is room nowhere.
    """
    reason = "there is no directory for temporary files"
    for place in (_MEMORY, Path(tempfile.gettempdir())):
        with contextlib.ExitStack() as cleaning:
            try:
                folder = Path(tempfile.mkdtemp(prefix="parallax-metrics-", dir=place))
                cleaning.callback(shutil.rmtree, folder, ignore_errors=True)
                files = MetricFiles(folder)
                for process in processes:
                    files.prepare(process)
            except OSError as error:
                reason = f"{place}: {error.strerror or error}"
                log.warning("no room for the metrics of all workers in %s", reason)
                continue
            yield files
            return
    raise MetricsUnwritable(reason)


class _OpenFiles:
    """The files that this process writes, opened when the first value of a kind is made."""

    def __init__(self, files: MetricFiles, process: str) -> None:
        self.lock = Lock()
        self._files = files
        self._process = process
        self._open: dict[str, _File | None] = {}
        self._told = False

    def of(self, kind: str) -> "_File | None":
        """None where it cannot be had; that is told once."""
        if kind not in self._open:
            self._open[kind] = None
            file = self._files.file(kind, self._process)
            try:
                _make(file)
                self._open[kind] = _File(str(file))
            except Exception:  # the library's reader raises whatever the bytes make it
                log.exception("%s cannot be used: what it should hold is not counted", file.name)
        return self._open[kind]

    def tell_once(self, error: OSError) -> None:
        if not self._told:
            self._told = True
            log.error("no room for more metrics, which are not counted: %s", error)

    def close(self) -> None:
        for file in self._open.values():
            if file is not None:
                file.close()


class _File(MmapedDict):
    """Grows only into room that was written to."""

    def __init__(self, filename: str) -> None:
        try:
            super().__init__(filename)
        except Exception:  # of bytes that are no such file
            self._f.close()
            raise

    def _init_value(self, key: str) -> None:
        needed = len(key.encode()) + 32  # its length, padding, value and time
        if self._used + needed > self._capacity:
            _write_zeros(Path(self._fname), self._capacity, self._capacity)  # as much again
        super()._init_value(key)


class _Value:
    """A number in a file of this process, as the library's metrics use it; never raises."""

    _multiprocess = True
    files: ClassVar[_OpenFiles]

    def __init__(
        self,
        typ: str,
        metric_name: str,
        name: str,
        labelnames: Sequence[str],
        labelvalues: Sequence[str],
        help_text: str,
        multiprocess_mode: str = "",
        **kwargs: object,
    ) -> None:
        self._key = mmap_key(metric_name, name, list(labelnames), list(labelvalues), help_text)
        self._number = 0.0
        with self.files.lock:
            self._file = self.files.of(f"{typ}_{multiprocess_mode}" if typ == "gauge" else typ)
            if self._file is not None:
                try:
                    self._number, _ = self._file.read_value(self._key)
                except OSError as error:
                    self._file = None
                    self.files.tell_once(error)

    def inc(self, amount: float) -> None:
        with self.files.lock:
            self._number += amount
            self._write(0.0)

    def set(self, value: float, timestamp: float | None = None) -> None:
        with self.files.lock:
            self._number = value
            self._write(timestamp or 0.0)

    def get(self) -> float:
        with self.files.lock:
            return self._number

    def set_exemplar(self, exemplar: object) -> None:
        """The files hold none."""

    def get_exemplar(self) -> None:
        """The files hold none."""

    def _write(self, timestamp: float) -> None:
        if self._file is not None:
            self._file.write_value(self._key, self._number, timestamp)


def _make(file: Path) -> None:
    """The file with room in it, unless it is there; a reader never sees it half made."""
    if file.exists():
        return
    unready = file.with_suffix(".new")
    unready.touch()
    _write_zeros(unready, 0, _ROOM)
    unready.replace(file)


def _write_zeros(file: Path, start: int, size: int) -> None:
    """Raises OSError where there is no room, and leaves the file as it was."""
    with file.open("r+b", buffering=0) as raw:
        raw.seek(start)
        try:
            while left := start + size - raw.tell():
                raw.write(bytes(min(left, _BLOCK)))  # on a nearly full disk not all of it
        except OSError:
            raw.truncate(start)
            raise


def _merged(files: Sequence[Path]) -> dict[str, Metric]:
    return {metric.name: metric for metric in MultiProcessCollector.merge(map(str, files))}


def _whole(file: Path) -> bool:
    try:
        _merged([file])
    except FileNotFoundError:
        return False
    except Exception as error:  # the library's reader raises whatever the bytes make it
        log.warning("%s cannot be read: %s", file.name, error)
        return False
    return True
