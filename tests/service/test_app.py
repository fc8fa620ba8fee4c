"""The wired app: what it refuses to start with, and what it must never load."""

import asyncio
import subprocess
import sys
import threading
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from threadpoolctl import threadpool_info

from service.app import create_app
from service.errors import ModelRefused, ProviderAbsent
from service.inference import infer
from tests.service.conftest import MakeSettings
from tests.service.toy import NATURAL, ToyFolder, calibrated


def test_service_runs_without_torch_or_training() -> None:
    """In a process of its own, since the tests themselves may have loaded either."""
    probe = (
        "import sys, service.app, service.cli\n"
        "bad = {name.partition('.')[0] for name in sys.modules} & {'torch', 'training', 'onnx'}\n"
        "print(sorted(bad))"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_settings_may_come_from_the_environment(
    toy: ToyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARALLAX_MODELS", str(toy.root))
    monkeypatch.setenv("PARALLAX_PROVIDER", "cpu")
    assert create_app().state.pipeline.catalogue.default.name == "toy"


def test_an_older_version_that_cannot_follow_the_settings_is_a_problem_of_its_own(
    toy: ToyFolder, settings_of: MakeSettings
) -> None:
    ToyFolder(toy.root, version=2, changes={"decision": calibrated()}).write()
    with TestClient(create_app(settings_of(policy="score"))) as client:
        newest, older = (
            client.post("/detect", params=params, content=NATURAL)
            for params in ({}, {"version": 1})
        )
    assert (newest.status_code, newest.json()["policy"]) == (200, "score")
    assert (older.status_code, older.json()["code"]) == (422, "policy-unavailable")


def test_numpy_has_one_thread_while_the_app_serves(
    toy: ToyFolder, settings_of: MakeSettings
) -> None:
    def threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    before = threads()
    with TestClient(create_app(settings_of())):
        assert threads() == {1}
    assert threads() == before


def test_tampered_model_stops_the_start(toy: ToyFolder, settings_of: MakeSettings) -> None:
    ToyFolder(toy.root, version=2).write()
    (toy.root / "toy" / "2" / "golden.npz").write_bytes(b"")
    with pytest.raises(ModelRefused, match=r"toy/2 refused: golden\.npz"):
        create_app(settings_of())


def test_absent_cuda_stops_the_start(
    toy: ToyFolder, settings_of: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.session.cuda_missing", lambda: "there is none")
    with pytest.raises(ProviderAbsent):
        create_app(settings_of(provider="cuda"))


def test_a_client_that_hangs_up_is_counted_not_logged(
    toy: ToyFolder,
    settings_of: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate, entered = threading.Event(), threading.Event()

    def held(model: Any, batch: Any) -> Any:
        entered.set()
        assert gate.wait(120)
        return infer(model, batch)

    monkeypatch.setattr("service.lanes.infer", held)
    app = create_app(settings_of())

    async def scenario() -> None:
        sent: list[Any] = []
        messages = [{"type": "http.request", "body": NATURAL}]

        async def receive() -> Any:
            if messages:
                return messages.pop()
            await asyncio.to_thread(entered.wait)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/detect", "headers": []}
        async with app.router.lifespan_context(app):
            await app(scope | {"query_string": b""}, receive, send)
            gate.set()
        assert sent[0]["status"] == 499

    asyncio.run(scenario())
    assert not caplog.records
    text = TestClient(app).get("/metrics").text
    assert 'parallax_requests_total{endpoint="/detect",outcome="client-gone"} 1.0' in text


def test_overload_is_answered_with_retry_after(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = app.state.pipeline.lane(None, None)
    with TestClient(app) as client, lane.batcher.admit(1024):
        response = client.post("/detect", content=NATURAL)
    assert (response.status_code, response.json()["code"]) == (429, "overloaded")
    assert int(response.headers["retry-after"]) >= 1


def test_a_client_may_shorten_the_time_of_its_request(
    toy: ToyFolder, settings_of: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()

    def held(model: Any, batch: Any) -> Any:
        assert gate.wait(120)
        return infer(model, batch)

    monkeypatch.setattr("service.lanes.infer", held)
    with TestClient(create_app(settings_of(deadline_ms=60_000))) as client:
        answer = client.post("/detect", content=NATURAL, headers={"X-Request-Timeout-Ms": "20"})
        gate.set()
    assert (answer.status_code, answer.json()["code"]) == (504, "deadline-exceeded")


def test_overload_is_told_before_the_body_is_there(app: FastAPI) -> None:
    """Nobody sends the body here."""

    async def scenario() -> None:
        sent: list[Any] = []

        async def receive() -> Any:
            raise AssertionError("the body was waited for")

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/detect", "headers": []}
        async with app.router.lifespan_context(app):
            with app.state.pipeline.lane(None, None).batcher.admit(1024):
                await app(scope | {"query_string": b""}, receive, send)
        assert sent[0]["status"] == 429

    asyncio.run(scenario())
