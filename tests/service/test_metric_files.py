"""Metrics of several processes: sums, successors, broken files, and no room for any of it."""

import errno
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from service import metric_files
from service.errors import MetricsUnwritable
from service.metric_files import MetricFiles


@pytest.fixture
def files(tmp_path: Path) -> MetricFiles:
    return MetricFiles(tmp_path)


class Process:
    """Some metrics of one process."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.counter = Counter("c_total", "Counted", registry=registry)
        self.sizes = Histogram("h", "Sizes", buckets=(1, 2), registry=registry)
        self.held = Gauge("g", "Held", multiprocess_mode="livesum", registry=registry)
        self.most = Gauge("m", "Most", multiprocess_mode="livemax", registry=registry)


@contextmanager
def process(files: MetricFiles, name: str) -> Iterator[Process]:
    with files.adopted(name):
        yield Process()


def told(files: MetricFiles) -> dict[str, float]:
    return {
        sample.name + "".join(sample.labels.values()): sample.value
        for metric in files.collect().values()
        for sample in metric.samples
    }


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Writing beyond it fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_processes_add_up(files: MetricFiles) -> None:
    for name, amount in (("0", 1), ("1", 2)):
        with process(files, name) as one:
            one.counter.inc(amount)
            one.sizes.observe(amount)
            one.held.set(amount)
            one.most.set(amount)
            assert one.counter._value.get() == amount
    assert told(files) == {
        "c_total": 3,
        "g": 3,
        "m": 2,
        "h_bucket1.0": 1,
        "h_bucket2.0": 2,
        "h_bucket+Inf": 2,
        "h_count": 2,
        "h_sum": 3,
    }
    assert Process().counter._value.get() == 0  # and the library is as it was


def test_a_successor_goes_on_counting_and_holds_nothing(files: MetricFiles) -> None:
    with process(files, "0") as first:
        first.counter.inc(5)
        first.held.set(7)
        files.end("0")
        assert told(files)["c_total"] == 5
        assert "g" not in told(files)
    with process(files, "0") as second:
        second.counter.inc(1)
        assert told(files)["c_total"] == 6
        assert told(files)["g"] == 0
    assert len(list(files.folder.glob("counter*"))) == 1


def many(count: int) -> Counter:
    """A counter with that many labels, each one once."""
    counter = Counter("c_total", "Counted", ("label",), registry=CollectorRegistry())
    for number in range(count):
        counter.labels(f"{number:0100}").inc()
    return counter


def test_more_than_there_was_room_for(files: MetricFiles) -> None:
    with files.adopted("0"):
        many(3000)
    file = files.file("counter", "0")
    assert file.stat().st_size > metric_files._ROOM
    assert file.stat().st_blocks * 512 >= file.stat().st_size  # no hole that a full disk would tear
    assert sum(told(files).values()) == 3000


def test_without_room_to_grow_the_rest_is_not_counted(
    files: MetricFiles, caplog: pytest.LogCaptureFixture
) -> None:
    with files.adopted("0"), files_of_at_most(metric_files._ROOM + 10_000):
        counter = many(3000)
        assert counter.labels(f"{2999:0100}")._value.get() == 1
    assert 500 < sum(told(files).values()) < 3000
    assert files.file("counter", "0").stat().st_size == metric_files._ROOM
    assert caplog.text.count("no room for more metrics") == 1


def test_without_any_room_nothing_fails(
    files: MetricFiles, caplog: pytest.LogCaptureFixture
) -> None:
    with files_of_at_most(1000), process(files, "0") as one:
        one.counter.inc()
        one.sizes.observe(1)
        one.held.set(3)
    assert told(files) == {}
    kinds = [record.getMessage().split("_0")[0] for record in caplog.records]
    assert kinds == ["counter", "histogram", "gauge_livesum", "gauge_livemax"]  # each once


ENTRY = b"\x20" + b"\0" * 7  # there are 32 bytes in use


@pytest.mark.parametrize(
    "broken", [b"x", ENTRY + b"\xff\xff\xff\x7f", ENTRY + b"\4\0\0\0junk" + b"\0" * 16]
)
def test_a_broken_file_is_left_out_and_made_anew(
    files: MetricFiles, caplog: pytest.LogCaptureFixture, broken: bytes
) -> None:
    for name in ("0", "1"):
        with process(files, name) as one:
            one.counter.inc()
    files.file("counter", "1").write_bytes(broken)
    assert told(files)["c_total"] == 1
    assert "counter_1.db cannot be read" in caplog.text
    with process(files, "1") as one:
        one.counter.inc()  # in memory
    files.end("1")
    with process(files, "1") as one:
        one.counter.inc()
    assert told(files)["c_total"] == 2


def test_the_folder_is_gone_afterwards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(metric_files, "_MEMORY", tmp_path)
    with metric_files.metric_files(("parent", "0")) as files:
        assert files.folder.parent == tmp_path
        assert files.folder.stat().st_mode & 0o777 == 0o700
        assert len(list(files.folder.glob("*_parent.db"))) == len(list(files.folder.glob("*_0.db")))
    assert not list(tmp_path.iterdir())


def test_where_memory_has_no_room_the_disk_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(metric_files, "_MEMORY", tmp_path / "absent")
    with metric_files.metric_files(("0",)) as files:
        assert files.folder.is_dir()
    assert "no room for the metrics of all workers" in caplog.text


def test_without_room_anywhere_the_start_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(metric_files, "_MEMORY", tmp_path)

    def full(file: Path, start: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(metric_files, "_write_zeros", full)
    with (
        pytest.raises(MetricsUnwritable, match="No space left on device"),
        metric_files.metric_files(("0",)),
    ):
        pass
    assert not list(tmp_path.iterdir())
