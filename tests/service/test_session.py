"""The provider that was really got, failures in our words, what is optimised once and bound."""

import ctypes
import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from service import session as module
from service.bound import Bound
from service.errors import ProviderAbsent
from service.graph_cache import GRAPH_FILE, WEIGHTS_FILE, KeptGraph
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
    assert Session(TOY, provider=provider, threads=1).provider == (CUDA if cuda else CPU)
    assert opened == ([(CUDA, {"use_tf32": "0"}), CPU] if cuda else [CPU])


@pytest.fixture
def kept(tmp_path: Path) -> KeptGraph:
    return KeptGraph(tmp_path / "cache", {"model": "toy"})


def with_weights(size: int = 16) -> bytes:
    """A network with weights enough to lie in a file of their own."""
    return toy_network(height=size, width=size).SerializeToString()


LARGE = np.random.default_rng(4).random((3, 1, 16, 16), np.float32)


def test_an_optimised_network_is_kept_and_taken(kept: KeptGraph) -> None:
    network = with_weights()
    plain = Session(network, provider="cpu", threads=1)
    assert not plain.from_cache
    wanted = plain.run(INPUT, LARGE, OUTPUTS)
    for _ in range(2):
        session = Session(network, provider="cpu", threads=1, kept=kept)
        assert session.from_cache
        assert (session.inputs, session.outputs) == (plain.inputs, plain.outputs)
        for name, values in session.run(INPUT, LARGE, OUTPUTS).items():
            assert (values == wanted[name]).all()
    assert {path.name for path in kept.folder.iterdir()} == {GRAPH_FILE, WEIGHTS_FILE, "seal.json"}


@pytest.mark.skipif(sys.platform != "linux", reason="maps are told by Linux only")
def test_its_weights_are_mapped_and_not_copied(kept: KeptGraph) -> None:
    session = Session(with_weights(64), provider="cpu", threads=1, kept=kept)
    assert str(kept.folder / WEIGHTS_FILE) in Path("/proc/self/maps").read_text()
    del session
    assert str(kept.folder / WEIGHTS_FILE) not in Path("/proc/self/maps").read_text()


def test_threads_do_not_change_what_is_kept(kept: KeptGraph) -> None:
    network = with_weights()
    one = Session(network, provider="cpu", threads=1, kept=kept).run(INPUT, LARGE, OUTPUTS)
    two = Session(network, provider="cpu", threads=2, kept=kept).run(INPUT, LARGE, OUTPUTS)
    assert all((one[name] == two[name]).all() for name in OUTPUTS)


def test_a_network_that_is_none_is_refused_with_and_without_a_cache(kept: KeptGraph) -> None:
    with pytest.raises(SessionError):
        Session(b"no model", provider="cpu", threads=1, kept=kept)
    assert list(kept.directory.iterdir()) == []


def test_a_kept_network_that_cannot_be_loaded_is_told(
    kept: KeptGraph, caplog: pytest.LogCaptureFixture
) -> None:
    def make(folder: Path) -> None:
        (folder / GRAPH_FILE).write_bytes(b"no network")

    kept.keep(make)
    session = Session(TOY, provider="cpu", threads=1, kept=kept)
    assert not session.from_cache
    assert "is not used" in caplog.text
    assert Session(TOY, provider="cpu", threads=1, kept=kept).from_cache  # made anew


def test_the_largest_batch_and_one_are_always_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []

    def run(name: str, batch: Any, outputs: Any) -> Any:
        ran.append(len(batch))

    session = Session(TOY, provider="cpu", threads=1)
    monkeypatch.setattr(session, "run", run)
    monkeypatch.setattr(module, "_WARM_UP_S", 0.0)
    session.warm_up(INPUT, (1, 4, 4), 6)
    assert ran == [6, 1]
    ran.clear()
    monkeypatch.setattr(module, "_WARM_UP_S", 600.0)
    session.warm_up(INPUT, (1, 4, 4), 6)
    assert ran == [6, 1, 2, 4, 3, 5]


def test_bound_sizes_answer_as_a_plain_run_does() -> None:
    session = Session(TOY, provider="cpu", threads=1)
    images = np.random.default_rng(6).random((9, 1, 4, 4), np.float32)
    plain = [session.run(INPUT, images[:count], OUTPUTS) for count in range(1, 10)]
    session.bind(INPUT, (1, 4, 4), 6, "cpu")
    assert list(session._bound) == [1, 2, 4, 6]
    for count in range(1, 10):  # 7 to 9 are more than any bound size
        answers = session.run(INPUT, images[:count], OUTPUTS)
        for name in OUTPUTS:
            assert answers[name] == pytest.approx(plain[count - 1][name], abs=1e-6)
    with pytest.raises(SessionError):
        session.run(INPUT, images[:, :, :2], OUTPUTS)


def test_a_size_that_answers_otherwise_is_not_bound(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = Bound.run

    def wrong(self: Bound, batch: Any, outputs: Any) -> Any:
        answers = run(self, batch, outputs)
        return {name: values + (len(batch) == 2) for name, values in answers.items()}

    monkeypatch.setattr(Bound, "run", wrong)
    session = Session(TOY, provider="cpu", threads=1)
    session.bind(INPUT, (1, 4, 4), 4, "cpu")
    assert list(session._bound) == [1, 4]
    assert "arrays of 2 images are not bound: logits_standard differs" in caplog.text


def test_cuda_graphs_are_asked_for_and_done_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opened: list[Any] = []

    def open_session(model: bytes, options: Any, *, providers: list[Any]) -> Any:
        opened.append(providers[0])
        if "enable_cuda_graph" in providers[0][1]:
            raise RuntimeError("a node is on the CPU")
        return fake_session(CUDA)

    monkeypatch.setattr(module, "cuda_missing", lambda: None)
    monkeypatch.setattr(ort, "preload_dlls", lambda: None)
    monkeypatch.setattr(ort, "InferenceSession", open_session)
    Session(TOY, provider="cuda", cuda_graphs=True)
    assert opened == [
        (CUDA, {"use_tf32": "0", "enable_cuda_graph": "1"}),
        (CUDA, {"use_tf32": "0"}),
    ]
    assert "cannot be a CUDA graph: a node is on the CPU" in caplog.text


def test_on_cuda_arrays_are_bound_and_nothing_is_kept(
    monkeypatch: pytest.MonkeyPatch, kept: KeptGraph
) -> None:
    bound: list[Any] = []
    monkeypatch.setattr(module, "cuda_missing", lambda: None)
    monkeypatch.setattr(module, "_open", lambda *args, **options: fake_session(CUDA))
    session = Session(TOY, provider="auto", kept=kept, cuda_graphs=True)
    monkeypatch.setattr(session, "bind", lambda *arguments: bound.append(arguments))
    session.warm_up(INPUT, (1, 4, 4), 6)
    assert bound == [(INPUT, (1, 4, 4), 6, "cuda")]
    assert not kept.directory.exists()


def test_a_network_that_computes_in_half_precision_is_taken() -> None:
    """Its input and outputs are float32, as the contract says; what is between is its own."""
    network = toy_network()
    halves = {name: f"{name}_half" for name in OUTPUTS}
    for node in network.graph.node:
        if node.op_type == "MatMul":
            node.output[0] = halves[node.output[0]]
    network.graph.node[0].input[0] = "image_half"
    to_half = onnx.helper.make_node("Cast", [INPUT], ["image_half"], to=onnx.TensorProto.FLOAT16)
    network.graph.node.insert(0, to_half)
    for name, half in halves.items():
        back = onnx.helper.make_node("Cast", [half], [name], to=onnx.TensorProto.FLOAT)
        network.graph.node.append(back)
    for weight in network.graph.initializer:
        rounded = onnx.numpy_helper.to_array(weight).astype(np.float16)
        weight.CopyFrom(onnx.numpy_helper.from_array(rounded, weight.name))
    session = Session(network.SerializeToString(), provider="cpu", threads=1)
    assert session.input_types == {INPUT: "tensor(float)"}
    for name, values in session.run(INPUT, IMAGES, OUTPUTS).items():
        assert values.dtype == np.float32
        assert values == pytest.approx(toy_answers(IMAGES)[name], abs=2e-2)


@pytest.mark.parametrize(
    ("light_s", "asked", "cpus", "threads", "runs"),
    [
        (60.0, None, 4, 1, 4),
        (0.0, None, 4, 4, 1),
        (0.0, None, 1, 1, 1),
        (60.0, 2, 4, 2, 2),
        (60.0, 3, 4, 3, 1),
        (60.0, 8, 4, 8, 1),
    ],
)
def test_light_networks_run_beside_each_other(
    light_s: float,
    asked: int | None,
    cpus: int,
    threads: int,
    runs: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.session._LIGHT_S", light_s)
    session = Session(TOY, provider="cpu", threads=asked, cpus=cpus)
    assert (session.threads, session.runs) == (threads, runs)
