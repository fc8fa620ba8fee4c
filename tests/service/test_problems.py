"""One shape for every error, and nothing of the inside in it."""

import logging

import pytest
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.testclient import TestClient
from starlette.exceptions import HTTPException

from service.errors import Overloaded
from service.problems import translate
from tests.service.toy import NATURAL

MEMBERS = {"type", "code", "title", "status", "detail", "instance"}


def request() -> Request:
    return Request({"type": "http", "method": "PUT", "path": "/x", "headers": []})


@pytest.mark.parametrize(
    ("exception", "code"),
    [
        (Overloaded(1), "overloaded"),
        (HTTPException(404), "not-found"),
        (HTTPException(405, headers={"Allow": "POST"}), "method-not-allowed"),
        (HTTPException(405), "method-not-allowed"),
        (HTTPException(400, "odd"), "body-malformed"),
        (HTTPException(500, "secret"), "internal-error"),
        (ValueError("secret"), "internal-error"),
        (
            RequestValidationError(
                [{"type": "int_parsing", "loc": ("query", "version"), "msg": "no", "input": "x"}]
            ),
            "parameter-refused",
        ),
    ],
)
def test_every_exception_is_translated(exception: Exception, code: str) -> None:
    error = translate(request(), exception)
    assert error.code == code
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/detect", 405),
        ("POST", "/models", 405),
        ("POST", "/detect", 400),
    ],
)
def test_one_shape(client: TestClient, method: str, path: str, status: int) -> None:
    response = client.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert set(response.json()) == MEMBERS


def test_allowed_methods_are_named(client: TestClient) -> None:
    response = client.get("/detect")
    assert response.headers["allow"] == "POST"
    assert response.json()["detail"] == "GET is not allowed here; use POST"


def test_unforeseen_errors_tell_nothing_and_are_logged(
    app: FastAPI, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("the password is swordfish")

    monkeypatch.setattr(app.state.pipeline, "lane", broken)
    with TestClient(app) as client, caplog.at_level(logging.ERROR):
        response = client.post("/detect", content=NATURAL)
        assert (response.status_code, response.json()["code"]) == (500, "internal-error")
        assert "swordfish" not in response.text
        assert "x-request-id" in response.headers
        assert 'outcome="internal-error"} 1.0' in client.get("/metrics").text
    assert "POST /detect failed" in caplog.text
    assert "swordfish" in caplog.text


def test_failed_inference_is_a_clear_500(
    app: FastAPI, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("out of memory at 0xdead")

    monkeypatch.setattr(app.state.pipeline.catalogue.default.session, "run", broken)
    with TestClient(app) as client:
        response = client.post("/detect", content=NATURAL)
    assert (response.status_code, response.json()["code"]) == (500, "inference-failed")
    assert "0xdead" not in response.text
    assert "0xdead" in caplog.text
