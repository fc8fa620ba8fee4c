"""What operators ask for, and where a problem's type leads."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from service.errors import request_errors


def test_live_and_ready(client: TestClient) -> None:
    assert client.get("/health/live").json() == {"status": "live"}
    ready = client.get("/health/ready")
    assert ready.json() == {"status": "ready", "models": [{"name": "toy", "version": 1}]}


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_balancers_may_ask_with_head(client: TestClient, path: str) -> None:
    response = client.head(path)
    assert (response.status_code, response.content) == (200, b"")


def test_not_ready_before_the_start(app: FastAPI) -> None:
    response = TestClient(app).get("/health/ready")  # without its lifespan
    assert (response.status_code, response.json()["code"]) == (503, "not-ready")
    assert TestClient(app).get("/health/live").status_code == 200


def test_models_tell_all_that_a_user_may_know(client: TestClient) -> None:
    answer = client.get("/models").json()
    (model,) = answer["models"]
    assert answer["refused"] == []
    assert model["default"] is True
    assert model["active"] is True
    assert model["provider"] == "CPUExecutionProvider"
    assert model["labels"] == ["cat", "dog", "owl"]
    assert model["input"]["height"] == 4
    assert model["precision"] == "float32"
    assert model["threat_model"] == {"norm": "linf", "eps": "8/255"}
    assert model["evaluation"]["metrics"] == {"standard_natural": 1.0}


def test_metrics_are_prometheus_text(client: TestClient) -> None:
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    assert "parallax_model_info{" in response.text


@pytest.mark.parametrize("kind", list(request_errors()), ids=lambda kind: kind.code)
def test_every_problem_type_leads_somewhere(client: TestClient, kind: type) -> None:
    known = {error.code: error for error in request_errors()}
    code = next(code for code, error in known.items() if error is kind)
    answer = client.get(f"/problems/{code}").json()
    assert answer["status"] == known[code].status
    assert answer["meaning"]


def test_unknown_problem_is_not_found(client: TestClient) -> None:
    assert client.get("/problems/nonsense").json()["code"] == "not-found"
