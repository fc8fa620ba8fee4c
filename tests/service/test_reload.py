"""When it is looked again and what comes of it; a real server under load through all of it."""

import asyncio
import logging
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import onnx
import pytest
from prometheus_client import CollectorRegistry

from service import cli
from service.active import write_active
from service.assembly import load_catalogue
from service.lanes import Lanes
from service.metrics import Metrics
from service.reload import Reloader, fingerprint, hangups, held_hangups
from service.repository import loader_of
from tests.service.conftest import MakeSettings
from tests.service.serving import Clients, Served, eventually, samples, serving
from tests.service.toy import ToyFolder, toy_answers, toy_network

hangs_up = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no such signal")


def spoil(folder: ToyFolder) -> None:
    (folder.path / "model.onnx").write_bytes(b"broken")


# --- in this process ---


def with_reloader(
    settings_of: MakeSettings,
    scenario: Callable[[Reloader, Lanes, Metrics], Awaitable[None]],
    **options: Any,
) -> None:
    async def run() -> None:
        settings = settings_of(**options)
        metrics = Metrics(CollectorRegistry())
        catalogue = load_catalogue(settings.models, loader_of(settings), default_model=None)
        lanes = Lanes(catalogue, settings, metrics)
        lanes.start()
        try:
            await scenario(Reloader(lanes, settings, metrics), lanes, metrics)
        finally:
            await lanes.close()

    asyncio.run(run())


def counted(metrics: Metrics) -> dict[str, float]:
    return {
        sample.labels["outcome"]: sample.value
        for family in metrics.reloads.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    }


def test_outcomes_are_counted_and_told(
    toy: ToyFolder, settings_of: MakeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(reloader: Reloader, lanes: Lanes, metrics: Metrics) -> None:
        assert await reloader.look() == "unchanged"
        second = ToyFolder(toy.root, version=2).write()
        assert await reloader.look() == "switched"
        assert "models loaded: toy/2" in caplog.text
        assert "models now active: toy/2" in caplog.text
        spoil(second)
        assert await reloader.look() == "refused"
        assert "model refused: toy version 2: model.onnx has sha256" in caplog.text
        assert lanes.catalogue.default.version == 2
        shutil.rmtree(second.path)
        assert await reloader.look() == "switched"
        assert "models gone: toy/2" in caplog.text
        write_active(toy.root / "toy", 1)
        assert await reloader.look() == "unchanged"
        assert lanes.catalogue.left_out == ()
        assert counted(metrics) == {"unchanged": 2, "switched": 2, "refused": 1}

    with caplog.at_level(logging.INFO):
        with_reloader(settings_of, scenario)


def test_whatever_fails_the_old_goes_on(
    toy: ToyFolder,
    settings_of: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(reloader: Reloader, lanes: Lanes, metrics: Metrics) -> None:
        old = lanes.catalogue
        toy.root.rename(toy.root.parent / "lost")
        assert await reloader.look() == "refused"
        assert "models are as before" in caplog.text
        (toy.root.parent / "lost").rename(toy.root)
        monkeypatch.setattr("service.assembly.folders", None)
        assert await reloader.look() == "refused"
        assert "the reload failed" in caplog.text
        assert lanes.catalogue is old
        assert lanes.ready
        assert counted(metrics) == {"refused": 2}

    with_reloader(settings_of, scenario)


def test_the_loop_turns_while_models_are_loaded(
    toy: ToyFolder, settings_of: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    may, loading = threading.Event(), threading.Event()

    def slowly(directory: Path) -> Any:
        loading.set()
        assert may.wait(120)
        return []

    monkeypatch.setattr("service.assembly.folders", slowly)

    def begin_with(directory: Path) -> list[Path]:
        return [toy.path]

    async def scenario(reloader: Reloader, lanes: Lanes, metrics: Metrics) -> None:
        monkeypatch.setattr("service.assembly.folders", slowly)
        look = asyncio.ensure_future(reloader.look())
        await asyncio.to_thread(loading.wait)
        assert lanes.ready
        assert not look.done()
        may.set()
        assert await look == "refused"  # an empty directory

    monkeypatch.setattr("service.assembly.folders", begin_with)
    with_reloader(settings_of, scenario)


def test_who_asks_during_a_look_gets_another(
    toy: ToyFolder, settings_of: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(reloader: Reloader, lanes: Lanes, metrics: Metrics) -> None:
        looks: list[int] = []
        began, may, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def look() -> str:
            looks.append(len(looks))
            began.set()
            await may.wait()
            if len(looks) == 2:
                done.set()
            return "unchanged"

        monkeypatch.setattr(reloader, "look", look)
        running = asyncio.ensure_future(reloader.run())
        reloader.ask()
        await began.wait()
        for _ in range(3):
            reloader.ask()
        may.set()
        await done.wait()
        running.cancel()
        assert looks == [0, 1]

    with_reloader(settings_of, scenario)


def test_a_watched_directory_is_looked_at_when_it_changed(
    toy: ToyFolder, settings_of: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(reloader: Reloader, lanes: Lanes, metrics: Metrics) -> None:
        compared = asyncio.Semaphore(0)
        loop = asyncio.get_running_loop()

        def seen(directory: Path) -> Any:
            loop.call_soon_threadsafe(compared.release)
            return fingerprint(directory)

        monkeypatch.setattr("service.reload.fingerprint", seen)
        running = asyncio.ensure_future(reloader.run())
        for _ in range(6):
            await compared.acquire()
        assert counted(metrics) == {"unchanged": 1}  # at first; then nothing changed
        draft = ToyFolder(toy.root.parent / "drafts", version=2).write()
        draft.path.rename(toy.root / "toy" / "2")
        while lanes.catalogue.default.version != 2:
            await compared.acquire()
        write_active(toy.root / "toy", 1)
        while lanes.catalogue.default.version != 1:
            await compared.acquire()
        assert counted(metrics) == {"unchanged": 1, "switched": 2}
        running.cancel()

    with_reloader(settings_of, scenario, reload_s=0.01)


def test_a_fingerprint_tells_what_could_change_an_answer(tmp_path: Path) -> None:
    assert fingerprint(tmp_path / "absent") == frozenset()
    toy = ToyFolder(tmp_path).write()
    (tmp_path / "README.md").write_text("no model")
    seen = {fingerprint(tmp_path)}

    def changed() -> bool:
        before = len(seen)
        seen.add(fingerprint(tmp_path))
        return len(seen) > before

    assert not changed()
    (tmp_path / "README.md").write_text("still none")
    (tmp_path / "toy" / ".2.draft").mkdir()
    assert not changed()
    write_active(tmp_path / "toy", 1)
    assert changed()
    (toy.path / "model.onnx").write_bytes(b"other")
    assert changed()
    ToyFolder(tmp_path, version=2).write()
    assert changed()
    shutil.rmtree(toy.path)
    assert changed()


@hangs_up
def test_a_hangup_asks_and_does_not_end_the_process() -> None:
    async def scenario() -> None:
        asked = asyncio.Event()
        with hangups(asked.set):
            os.kill(os.getpid(), signal.SIGHUP)
            await asked.wait()

    asyncio.run(scenario())
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL


@hangs_up
def test_a_hangup_during_the_start_is_heeded_after_it() -> None:
    async def scenario() -> None:
        asked = asyncio.Event()
        os.kill(os.getpid(), signal.SIGHUP)  # held
        with hangups(asked.set):
            await asked.wait()
        os.kill(os.getpid(), signal.SIGHUP)  # too late, but no end either

    with held_hangups():
        asyncio.run(scenario())
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL


def test_outside_of_the_main_thread_there_are_no_hangups() -> None:
    async def scenario() -> None:
        with hangups(lambda: None):
            await asyncio.sleep(0)

    thread = threading.Thread(target=lambda: asyncio.run(scenario()))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL


# --- a server in a process of its own ---


def versions(served: Served) -> list[int]:
    ready = httpx2.get(f"{served.url}/health/ready", timeout=120).json()
    return [model["version"] for model in ready["models"]]


def default(served: Served) -> int:
    models = httpx2.get(f"{served.url}/models", timeout=120).json()["models"]
    (version,) = (model["version"] for model in models if model["default"])
    return int(version)


def reloads(served: Served, outcome: str) -> float:
    name = f"parallax_reloads_total[outcome={outcome}]"
    return samples(f"{served.url}/metrics").get(name, 0.0)


@hangs_up
def test_a_new_version_under_load_costs_no_request(toy: ToyFolder) -> None:
    with serving(toy.root, "--threads", "1") as served, Clients(served) as clients:
        clients.more()
        for version in (2, 3):
            ToyFolder(toy.root, version=version).write()
            served.process.send_signal(signal.SIGHUP)
            eventually(lambda version=version: default(served) == version)  # type: ignore[misc]  # bound
            clients.more()
        shutil.rmtree(toy.path)
        served.process.send_signal(signal.SIGHUP)
        eventually(lambda: versions(served) == [2, 3])
        clients.more()
        clients.end()
        assert clients.lost == []
        assert clients.refused == 0
        assert clients.statuses == {200}
        assert reloads(served, "switched") == 3


@hangs_up
def test_a_bad_version_is_refused_under_load_and_the_old_one_goes_on(toy: ToyFolder) -> None:
    with serving(toy.root, "--threads", "1") as served, Clients(served) as clients:
        spoil(ToyFolder(toy.root, version=2).write())
        (toy.root / "toy" / "3").mkdir()
        (toy.root / "toy" / "3" / "model.onnx").write_bytes(b"half")
        served.process.send_signal(signal.SIGHUP)
        eventually(lambda: reloads(served, "refused") >= 1)
        assert versions(served) == [1]
        told = httpx2.get(f"{served.url}/models", timeout=120).json()
        (refused,) = told["refused"]
        assert (refused["name"], refused["version"]) == ("toy", 2)
        assert "model.onnx has sha256" in refused["reason"]
        clients.more()
        ToyFolder(toy.root, version=3).write()
        shutil.rmtree(toy.root / "toy" / "2")
        served.process.send_signal(signal.SIGHUP)
        eventually(lambda: versions(served) == [1, 3])
        assert httpx2.get(f"{served.url}/models", timeout=120).json()["refused"] == []
        clients.end()
        assert clients.lost == []
        assert clients.statuses == {200}
    assert "model refused: toy version 2: model.onnx has sha256" in served.log.read_text()


@hangs_up
def test_rollback_and_a_hangup_bring_the_old_version_back(
    toy: ToyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    ToyFolder(toy.root, version=2).write()
    flags = ["--models", str(toy.root), "--provider", "cpu", "--threads", "1"]
    with serving(toy.root, "--threads", "1") as served, Clients(served) as clients:
        assert default(served) == 2
        assert cli.main(["models", "rollback", "toy", *flags]) == 0
        assert capsys.readouterr().out.startswith("toy version 1 is active")
        served.process.send_signal(signal.SIGHUP)
        eventually(lambda: default(served) == 1)
        assert cli.main(["models", "activate", "toy", "newest", *flags]) == 0
        served.process.send_signal(signal.SIGHUP)
        eventually(lambda: default(served) == 2)
        clients.end()
        assert clients.lost == []
        assert clients.statuses == {200}


@hangs_up
def test_a_hangup_has_the_keys_read_anew(toy: ToyFolder, tmp_path: Path) -> None:
    old, new = "a" * 32, "b" * 32
    keys = tmp_path / "keys"
    keys.write_text(f"arm:{old}\n")
    keys.chmod(0o600)
    with serving(toy.root, "--threads", "1", "--api-keys", str(keys)) as served:

        def status(key: str) -> int:
            headers = {"X-API-Key": key}
            return httpx2.get(f"{served.url}/models", headers=headers, timeout=120).status_code

        assert (status(old), status(new)) == (200, 401)
        keys.write_text(f"arm:{new}\n")
        served.process.send_signal(signal.SIGHUP)
        eventually(lambda: status(new) == 200)
        assert status(old) == 401


def test_a_folder_renamed_into_place_is_served_without_a_signal(toy: ToyFolder) -> None:
    with serving(toy.root, "--threads", "1", "--reload-s", "0.05") as served:
        draft = ToyFolder(toy.root.parent / "drafts", version=2).write()
        draft.path.rename(toy.root / "toy" / "2")
        eventually(lambda: default(served) == 2)
        assert reloads(served, "switched") == 1


def wide_network(seed: int) -> onnx.ModelProto:
    """The toy with 32 MB of weights that change nothing: they are multiplied by zero."""
    network = toy_network()
    ballast = np.random.default_rng(seed).random((16, 1 << 19), np.float32)
    graph = network.graph
    graph.initializer.append(onnx.numpy_helper.from_array(ballast, "ballast"))
    graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((), np.float32), "zero"))
    for node in graph.node:
        if node.output[0] == "logits_standard":
            node.output[0] = "bare"
    for made in (
        onnx.helper.make_node("MatMul", ["flat", "ballast"], ["heavy"]),
        onnx.helper.make_node("ReduceMean", ["heavy"], ["mean"], axes=[1], keepdims=1),
        onnx.helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        onnx.helper.make_node("Add", ["bare", "nothing"], ["logits_standard"]),
    ):
        graph.node.append(made)
    return network


def resident(served: Served) -> int:
    """MiB."""
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1]) // 1024


@pytest.mark.skipif(sys.platform != "linux", reason="memory is told by Linux only")
def test_versions_of_one_network_cost_its_memory_once(tmp_path: Path) -> None:
    """Four calibrations of a network beside four networks of the same size."""
    image = np.random.default_rng(0).random((4, 1, 4, 4), np.float32)
    golden = {"image": image, **toy_answers(image)}
    sizes = {}
    for kind, seeds in (("one", (0,)), ("shared", (0, 0, 0, 0)), ("own", (0, 1, 2, 3))):
        for version, seed in enumerate(seeds, 1):
            folder = ToyFolder(tmp_path / kind, version=version)
            folder.write(wide_network(seed), golden)
        with serving(tmp_path / kind, "--threads", "1", "--max-batch", "1") as served:
            sizes[kind] = resident(served)
    assert sizes["shared"] - sizes["one"] < 24, sizes
    assert sizes["own"] - sizes["one"] > 3 * 24, sizes
