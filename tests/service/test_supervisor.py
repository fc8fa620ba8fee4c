"""Two workers as processes of their own: one address, one set of metrics, one end."""

import os
import re
import signal
import socket
import time
from functools import partial
from pathlib import Path

import httpx2
import pytest

from tests.service.serving import (
    PNG,
    Clients,
    Served,
    connections,
    eventually,
    samples,
    serving,
    starting,
)
from tests.service.toy import ATTACKED, NATURAL, ToyFolder, calibrated

TWO = ("--workers", "2")
OK = "parallax_requests_total[endpoint=/detect][outcome=ok]"


def ask(served: Served, data: bytes = ATTACKED, path: str = "/detect") -> httpx2.Response:
    """On a connection of its own."""
    return httpx2.post(served.url + path, content=data, headers=PNG, timeout=120)


def folders() -> set[Path]:
    return set(Path("/dev/shm").glob("parallax-metrics-*"))


def test_it_greets_once_and_metrics_add_up(toy: ToyFolder) -> None:
    toy.changes["decision"] = calibrated()
    toy.write()
    with serving(toy.root, *TWO) as served:
        assert re.fullmatch(r"parallax \S+ on http://127.0.0.1:\d+ \(.*\)", served.greeting[0])
        assert served.greeting[1].startswith("  model toy version 1: 3 classes")
        assert served.greeting[2:] == ["  2 workers"]
        for _ in range(10):
            assert ask(served).json()["verdict"] == "corrected"
            assert ask(served, NATURAL).json()["verdict"] == "accept"
            assert ask(served, NATURAL, "/detect?policy=score").json()["verdict"] == "accept"
        for image in (ATTACKED, NATURAL):
            files = [("file", image)] * 40
            httpx2.post(served.url + "/detect", files=files, timeout=120)
        model = "[model=toy][version=1]"
        expected = {
            OK: 32,
            "parallax_images_total[model=toy][verdict=corrected][version=1]": 50,
            "parallax_images_total[model=toy][verdict=accept][version=1]": 60,
            f"parallax_score_count{model}": 110,
            "parallax_stage_seconds_count[stage=inference]": 110,
            f"parallax_adversarial_rate{model}": 50 / 110,
            "parallax_alarm_rate[fpr=none][model=toy][policy=eq12][version=1]": 50 / 100,
            "parallax_alarm_rate[fpr=0.1][model=toy][policy=score][version=1]": 0,
            "parallax_promised_alarm_rate[bound=low][fpr=0.1][model=toy][version=1]": 0.08,
            f"parallax_pending_images{model}": 0,
            f"parallax_score_ks_distance{model}": 0.99 - 60 / 110,
            "parallax_workers": 2,
            "parallax_worker_restarts_total": 0,
        }
        url = f"{served.url}/metrics"
        eventually(lambda: told(url, expected) == pytest.approx(expected))
        for _ in range(6):  # whichever answers
            assert told(url, expected) == pytest.approx(expected)
        first, second = (resident(pid) for pid in served.workers())
        parent = resident(served.process.pid)
        resident_now = samples(url)["process_resident_memory_bytes"]
        assert resident_now == pytest.approx(first + second + parent, rel=0.05)
        assert samples(url)["process_cpu_seconds_total"] > 0
        assert samples(url)["process_open_fds"] > 20


def told(url: str, names: dict[str, float]) -> dict[str, float]:
    found = samples(url)
    return {name: found[name] for name in names if name in found}


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_both_workers_get_connections(toy: ToyFolder) -> None:
    with serving(toy.root, *TWO) as served, Clients(served, 16) as clients:
        clients.more()
        first, second = (connections(pid, served.port) for pid in served.workers())
        assert first + second == 16
        assert min(first, second) >= 2  # one of 4,000 spreads fails
        clients.end()
        assert clients.statuses == {200}
        assert not clients.lost


def test_a_killed_worker_is_replaced_and_the_other_is_not_harmed(toy: ToyFolder) -> None:
    with serving(toy.root, *TWO) as served, Clients(served, 16) as clients:
        clients.more()
        killed, other = served.workers()
        held = connections(killed, served.port)
        os.kill(killed, signal.SIGKILL)
        began = time.monotonic()
        eventually(lambda: len(served.workers()) == 2 and killed not in served.workers())
        assert other in served.workers()
        eventually(lambda: samples(f"{served.url}/metrics")["parallax_workers"] == 2)
        assert time.monotonic() - began < 60
        (replacement,) = set(served.workers()) - {other}
        eventually(lambda: connections(replacement, served.port) > 0)
        clients.more()
        clients.end()
        assert clients.refused == 0
        assert len(clients.lost) <= held
        assert clients.statuses == {200}
        metrics = samples(f"{served.url}/metrics")
        assert clients.answered - held <= metrics[OK] <= clients.answered + held
        assert metrics["parallax_worker_restarts_total"] == 1
        assert f"process {killed} ended, signal 9; another one in 0.0 s" in served.log.read_text()


def test_a_worker_that_ends_soon_again_is_waited_for(toy: ToyFolder) -> None:
    with serving(toy.root, *TWO) as served:
        for _ in range(3):
            *_, youngest = served.workers()
            os.kill(youngest, signal.SIGKILL)
            eventually(partial(is_gone, served, youngest))
            eventually(lambda: samples(f"{served.url}/metrics")["parallax_workers"] == 2)
        delays = re.findall(r"another one in (\S+) s", served.log.read_text())
        assert sorted(delays) in (["0.0", "0.5", "1.0"], ["0.0", "0.0", "0.5"])
        assert ask(served).status_code == 200


def is_gone(served: Served, pid: int) -> bool:
    return pid not in served.workers()


def test_a_replacement_that_is_refused_does_not_end_the_others(toy: ToyFolder) -> None:
    with serving(toy.root, *TWO) as served:
        killed, other = served.workers()
        (toy.path / "model.onnx").write_bytes(b"other")
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: served.log.read_text().count("another one in") >= 2)
        assert "model.onnx has sha256" in served.log.read_text()
        assert served.process.poll() is None
        os.kill(other, signal.SIGKILL)
        assert served.process.wait(120) == 3  # nobody is left who answers
        error, hint = served.log.read_text().splitlines()[-2:]
        assert error.startswith("error: model folder")
        assert hint.startswith("hint: ")


def test_a_worker_that_cannot_start_ends_it_all(toy: ToyFolder) -> None:
    before = folders()
    (toy.path / "model.onnx").write_bytes(b"other")
    with starting(toy.root, *TWO) as (process, log):
        assert process.stdout is not None
        assert process.stdout.read() == ""
        assert process.wait(120) == 3
    error, hint = log.read_text().splitlines()
    assert "model.onnx has sha256" in error
    assert hint.startswith("hint: ")
    assert folders() == before


@pytest.mark.parametrize(
    ("signals", "status"),
    [((signal.SIGTERM,), -15), ((signal.SIGINT,), 130), ((signal.SIGTERM,) * 2, -15)],
)
def test_the_end_loses_no_request(toy: ToyFolder, signals: tuple[int, ...], status: int) -> None:
    """Several signals: as a service manager tells the workers too."""
    before = folders()
    with serving(toy.root, *TWO) as served, Clients(served, 16) as clients:
        clients.more(200)
        workers = served.workers()
        served.process.send_signal(signals[0])
        if len(signals) > 1:
            for pid in workers:
                os.kill(pid, signals[1])
        assert served.process.wait(120) == status
        clients.end()
        assert clients.lost == []
        assert clients.statuses == {200}
        assert clients.refused > 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    assert folders() == before


def test_a_second_signal_ends_at_once(toy: ToyFolder) -> None:
    with serving(toy.root, *TWO, "--drain-s", "3000") as served:
        served.process.send_signal(signal.SIGTERM)
        eventually(lambda: httpx2.get(f"{served.url}/health/ready").status_code == 503)
        assert ask(served).status_code == 200
        assert served.stop() == -signal.SIGTERM


def test_workers_end_when_their_parent_is_gone(toy: ToyFolder) -> None:
    before = folders()
    with serving(toy.root, *TWO) as served:
        workers = served.workers()
        served.process.kill()
        served.process.wait(120)
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", served.port))
    assert folders() == before


@pytest.mark.slow
def test_a_worker_that_hangs_is_replaced(toy: ToyFolder) -> None:
    with serving(toy.root, *TWO) as served:
        hanging, other = served.workers()
        os.kill(hanging, signal.SIGSTOP)
        eventually(lambda: hanging not in served.workers() and len(served.workers()) == 2)
        assert other in served.workers()
        for _ in range(10):
            assert ask(served).status_code == 200
        assert "says nothing any more" in served.log.read_text()


def test_sighup_reaches_every_worker(toy: ToyFolder) -> None:
    with serving(toy.root, *TWO) as served:
        workers = served.workers()
        url = f"{served.url}/metrics"
        served.process.send_signal(signal.SIGHUP)
        eventually(lambda: reloads(url) == {"unchanged": 2})
        ToyFolder(toy.root, version=2).write()
        served.process.send_signal(signal.SIGHUP)
        eventually(lambda: reloads(url).get("switched") == 2)
        assert {ask(served).json()["model"]["version"] for _ in range(10)} == {2}
        assert served.workers() == workers


def reloads(url: str) -> dict[str, float]:
    """By outcome."""
    name = "parallax_reloads_total[outcome="
    return {
        key.removeprefix(name)[:-1]: count
        for key, count in samples(url).items()
        if key.startswith(name)
    }


@pytest.mark.parametrize("flags", [(), TWO])
def test_the_address_is_not_shared_with_a_second_service(
    toy: ToyFolder, flags: tuple[str, ...]
) -> None:
    with (
        serving(toy.root, *TWO) as served,
        starting(toy.root, *flags, "--port", str(served.port)) as (process, log),
    ):
        assert process.wait(120) == 5
        assert f"cannot listen on 127.0.0.1:{served.port}" in log.read_text()


def test_metrics_have_a_port_of_their_own(toy: ToyFolder) -> None:
    with serving(toy.root, *TWO, "--metrics-port", "0") as served:
        for _ in range(20):
            ask(served)
        assert httpx2.get(f"{served.url}/metrics").status_code == 404
        eventually(lambda: samples(served.metrics_url).get(OK) == 20)
        assert samples(served.metrics_url)["parallax_workers"] == 2
