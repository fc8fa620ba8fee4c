"""The provider that was really got, and runs that fail in our words."""

import ctypes
import logging
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from service import session as module
from service.errors import ProviderAbsent
from service.manifest import INPUT, LOGITS, OUTPUTS
from service.session import CPU, CUDA, Session, SessionError, cuda_missing
from tests.service.toy import toy_answers, toy_network

TOY = toy_network().SerializeToString()
IMAGES = np.random.default_rng(3).random((5, 1, 4, 4), np.float32)


def test_session_knows_its_model() -> None:
    session = Session(TOY, provider="cpu", threads=1)
    assert session.provider == CPU
    assert session.threads == 1
    assert session.inputs == {INPUT: (None, 1, 4, 4)}
    assert session.input_types == {INPUT: "tensor(float)"}
    assert session.outputs == OUTPUTS


def test_run_gives_what_was_asked_for() -> None:
    session = Session(TOY, provider="cpu")
    session.warm_up(INPUT, (1, 4, 4), 3)
    answers = session.run(INPUT, IMAGES, LOGITS)
    assert tuple(answers) == LOGITS
    for name, values in answers.items():
        assert values == pytest.approx(toy_answers(IMAGES)[name], abs=1e-5)


def test_failures_are_one_line() -> None:
    session = Session(TOY, provider="cpu", threads=1)
    with pytest.raises(SessionError) as caught:
        session.run(INPUT, IMAGES[:, :, :2], LOGITS)
    assert "\n" not in str(caught.value)
    with pytest.raises(SessionError):
        Session(b"no model", provider="cpu", threads=1)


class Driver:
    """Stands in for libcuda."""

    def __init__(self, devices: int, status: int = 0) -> None:
        self._devices, self._status = devices, status

    def cuInit(self, flags: int) -> int:  # the driver's own name
        return self._status

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = self._devices
        return 0


@pytest.mark.parametrize(
    ("providers", "driver", "reason"),
    [
        ([CPU], Driver(1), "built without it"),
        ([CUDA, CPU], None, "no NVIDIA driver"),
        ([CUDA, CPU], SimpleNamespace(), None),
        ([CUDA, CPU], Driver(0), "finds no device"),
        ([CUDA, CPU], Driver(1, status=100), "finds no device"),
        ([CUDA, CPU], Driver(1), None),
    ],
)
def test_cuda_is_looked_for_before_it_is_opened(
    monkeypatch: pytest.MonkeyPatch, providers: list[str], driver: Any, reason: str | None
) -> None:
    def load(name: str) -> Any:
        if driver is None:
            raise OSError(name)
        return driver

    monkeypatch.setattr(ort, "get_available_providers", lambda: providers)
    monkeypatch.setattr(ctypes, "CDLL", load)
    missing = cuda_missing()
    if isinstance(driver, SimpleNamespace):
        reason = "no NVIDIA driver"  # a library without the driver's functions is none
    assert (missing is None) if reason is None else (missing is not None and reason in missing)


def fake_session(provider: str) -> Any:
    return SimpleNamespace(get_providers=lambda: [provider], get_inputs=list, get_outputs=list)


def test_cuda_that_is_absent_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cuda_missing", lambda: "the card is at the mender's")
    with pytest.raises(ProviderAbsent, match="at the mender's"):
        Session(TOY, provider="cuda")
    assert Session(TOY, provider="auto").provider == CPU


def test_silent_fallback_is_refused_or_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "cuda_missing", lambda: None)
    monkeypatch.setattr(module, "_open", lambda *args, **options: fake_session(CPU))
    with pytest.raises(ProviderAbsent, match="fell back"):
        Session(TOY, provider="cuda")
    with caplog.at_level(logging.WARNING):
        assert Session(TOY, provider="auto").provider == CPU
    assert "running on the CPU" in caplog.text


@pytest.mark.parametrize(("provider", "cuda"), [("auto", True), ("cuda", True), ("cpu", False)])
def test_cuda_is_opened_where_it_is_wanted(
    monkeypatch: pytest.MonkeyPatch, provider: Any, cuda: bool
) -> None:
    opened: list[Any] = []

    def open_session(model: bytes, options: Any, *, providers: list[Any]) -> Any:
        opened.extend(providers)
        return fake_session(CUDA if cuda else CPU)

    monkeypatch.setattr(module, "cuda_missing", lambda: None)
    monkeypatch.setattr(ort, "preload_dlls", lambda: None)
    monkeypatch.setattr(ort, "InferenceSession", open_session)
    assert Session(TOY, provider=provider).provider == (CUDA if cuda else CPU)
    assert opened == ([(CUDA, {"use_tf32": "0"}), CPU] if cuda else [CPU])
