"""Folders are believed only when hash, shape, names and golden values agree."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from service import manifest as contract
from service.errors import ModelRefused
from service.graph_cache import GRAPH_FILE
from service.manifest import DecisionSpec
from service.repository import Loader, folders, load_model
from service.session import CPU, Provider, Session, SessionError
from tests.service.toy import ToyFolder, toy_answers, toy_head, toy_network

IMAGE = np.random.default_rng(5).random((3, 1, 4, 4), np.float32)


def golden(**changes: Any) -> dict[str, Any]:
    return {contract.INPUT: IMAGE, **toy_answers(IMAGE)} | changes


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in golden().items() if key != name}


def half(network: onnx.ModelProto) -> onnx.ModelProto:
    """The same network, eating float64."""
    network.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    for constant in network.graph.initializer:
        values = onnx.numpy_helper.to_array(constant).astype(np.float64)
        constant.CopyFrom(onnx.numpy_helper.from_array(values, constant.name))
    for output in network.graph.output:
        output.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    return network


def test_valid_folder_is_loaded(toy: ToyFolder) -> None:
    model = load_model(toy.path, provider="cpu", threads=1)
    assert (model.name, model.version) == ("toy", 1)
    assert model.manifest == toy.manifest()
    assert model.session.provider == CPU


def test_an_int8_network_runs_on_the_cpu_whatever_auto_would_take(
    toy: ToyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def watched(network: bytes, *, provider: Provider, **options: Any) -> Session:
        asked.append((provider, options["cuda_graphs"]))
        return Session(network, provider=provider, **options)

    monkeypatch.setattr("service.repository.Session", watched)
    loader = Loader(provider="auto", threads=1, cuda_graphs=True)
    loader.load(toy.path)
    loader.sessions.clear()
    toy.changes["precision"] = "int8"
    toy.write()
    model = loader.load(toy.path)
    assert model.manifest.precision == "int8"
    assert asked == [("auto", True), ("cpu", False)]
    assert list(loader.sessions.values()) == [model.session]
    with pytest.raises(ModelRefused, match="int8, which is for the CPU") as refused:
        load_model(toy.path, provider="cuda", threads=1)
    assert refused.value.hint == "ask for auto or cpu"


def flip_model(toy: ToyFolder) -> None:
    path = toy.path / contract.MODEL_FILE
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def flip_golden(toy: ToyFolder) -> None:
    (toy.path / contract.GOLDEN_FILE).write_bytes(b"other")


def lose_model(toy: ToyFolder) -> None:
    (toy.path / contract.MODEL_FILE).unlink()


def change_extra(toy: ToyFolder) -> None:
    extra = toy.path / "robust.onnx"
    extra.write_bytes(b"one way")
    files = dict(toy.manifest().files) | {extra.name: contract.file_entry(extra)}
    toy.changes["files"] = files
    contract.write_manifest(toy.manifest(), toy.path)
    load_model(toy.path, provider="cpu", threads=1)
    extra.write_bytes(b"another")


def rename_folder(toy: ToyFolder) -> None:
    toy.path.rename(toy.path.parent / "2")
    toy.version = 2


def break_schema(toy: ToyFolder) -> None:
    path = toy.path / contract.MANIFEST_FILE
    path.write_text(path.read_text().replace('"schema_version": 2', '"schema_version": 9'))


@pytest.mark.parametrize(
    ("tamper", "reason"),
    [
        (flip_model, "model.onnx has sha256 .* the manifest"),
        (flip_golden, "golden.npz has sha256 .* the manifest"),
        (change_extra, "robust.onnx has sha256 .* the manifest"),
        (lose_model, "model.onnx cannot be read"),
        (rename_folder, "it says it is toy/1"),
        (break_schema, "schema_version"),
    ],
)
def test_tampered_folder_is_refused(
    toy: ToyFolder, tamper: Callable[[ToyFolder], None], reason: str
) -> None:
    tamper(toy)
    with pytest.raises(ModelRefused, match=reason):
        load_model(toy.path, provider="cpu", threads=1)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (toy_network(rename={"z_robust": "features"}), "has outputs features"),
        (toy_network(batch=1), r"takes image \(1, 1, 4, 4\)"),
        (toy_network(height=5), r"takes image \(N, 1, 5, 4\)"),
        (half(toy_network()), r"takes tensor\(double\)"),
        (toy_network(classes=2), r"logits_standard is \(4, 2\), expected \(4, 3\)"),
    ],
)
def test_network_outside_the_contract_is_refused(
    tmp_path: Path, network: onnx.ModelProto, reason: str
) -> None:
    folder = ToyFolder(tmp_path).write(network)
    with pytest.raises(ModelRefused, match=reason):
        load_model(folder.path, provider="cpu", threads=1)


def test_file_that_is_no_network_is_refused(toy: ToyFolder) -> None:
    (toy.path / contract.MODEL_FILE).write_bytes(b"no network")
    contract.write_manifest(toy.manifest(), toy.path)
    with pytest.raises(ModelRefused, match=r"model\.onnx cannot be run"):
        load_model(toy.path, provider="cpu", threads=1)


LOW = toy_answers(IMAGE)[contract.LOGITS_ROBUST]
TIE = np.zeros((1, 1, 4, 4), np.float32)
TIED = toy_answers(TIE)[contract.LOGITS_ROBUST] + np.array([0, 5e-4, 0], np.float32)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        (without("z_robust"), "lacks an array"),
        (golden(image=IMAGE[:, :, :2]), r"image is \(\d, 1, 2, 4\)"),
        (golden(image=IMAGE[:0]), r"image is \(0, 1, 4, 4\)"),
        (golden(image=np.float32(1)), r"image is \(\)"),
        (golden(image=IMAGE.astype(np.float64)), "image is float64, not float32"),
        (golden(logits_standard=LOW.astype(str)), "logits_standard is <U"),
        (golden(logits_robust=LOW + 2e-3), "logits_robust is off the golden values by 0.002"),
        (golden(logits_robust=LOW * np.nan), "logits_robust is off the golden values"),
        (golden(logits_robust=LOW[:2]), r"golden logits_robust is \(2, 3\)"),
        (golden(z_nonrobust=LOW[:, :2] + 9), "z_nonrobust is off"),
        (
            {contract.INPUT: TIE, **toy_answers(TIE), "logits_robust": TIED},
            "logits_robust gives other labels",
        ),
    ],
)
def test_golden_mismatch_is_refused(tmp_path: Path, arrays: dict[str, Any], reason: str) -> None:
    folder = ToyFolder(tmp_path).write(golden=arrays)
    with pytest.raises(ModelRefused, match=reason):
        load_model(folder.path, provider="cpu", threads=1)


def test_golden_file_may_not_hold_code(toy: ToyFolder) -> None:
    file = io.BytesIO()
    np.savez(file, image=np.array([{"a": 1}], dtype=object))
    (toy.path / contract.GOLDEN_FILE).write_bytes(file.getvalue())
    contract.write_manifest(toy.manifest(), toy.path)
    with pytest.raises(ModelRefused, match=r"golden\.npz cannot be read"):
        load_model(toy.path, provider="cpu", threads=1)


WIDE = np.zeros((1, 14))


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ({"surprise": np.zeros(1)}, "surprise; a head is hidden_bias, hidden_weight, mean"),
        (toy_head(extra=np.zeros(1)), "holds extra, "),
        (toy_head(mean=np.zeros(12)), r"mean is \(12,\), expected \(13,\)"),
        (toy_head(hidden_weight=WIDE), r"hidden_weight is \(1, 14\), expected \(1, 13\)"),
        (toy_head(output_weight=np.zeros(2)), r"output_weight is \(2,\), expected \(1,\)"),
        (toy_head(output_bias=np.zeros(1)), r"output_bias is \(1,\), expected \(\)"),
        (toy_head(scale=np.zeros(13)), "scale is not above 0"),
        (toy_head(mean=np.full(13, np.nan)), "mean holds what is no finite number"),
        (toy_head(mean=np.zeros(13, np.int64)), "mean holds what is no finite number"),
        (toy_head(mean=np.array([{}] * 13)), r"detector\.npz cannot be read"),
    ],
)
def test_head_that_does_not_fit_is_refused(
    tmp_path: Path, head: dict[str, Any], reason: str
) -> None:
    folder = ToyFolder(tmp_path, head=head).write()
    with pytest.raises(ModelRefused, match=reason):
        load_model(folder.path, provider="cpu", threads=1)


def test_head_is_loaded_where_it_is_the_score(tmp_path: Path) -> None:
    folder = ToyFolder(tmp_path, head=toy_head()).write()
    head = load_model(folder.path, provider="cpu", threads=1).head
    assert head is not None
    assert head.hidden_weight.shape == (1, 13)
    assert head.output_bias == 0.0
    folder.changes["decision"] = DecisionSpec()
    contract.write_manifest(folder.manifest(), folder.path)
    assert load_model(folder.path, provider="cpu", threads=1).head is None


def test_tampered_head_is_refused(tmp_path: Path) -> None:
    folder = ToyFolder(tmp_path, head=toy_head()).write()
    np.savez(folder.path / contract.DETECTOR_FILE, **toy_head(output_bias=np.float64(-9)))
    with pytest.raises(ModelRefused, match=r"detector\.npz has sha256"):
        load_model(folder.path, provider="cpu", threads=1)


def test_small_differences_are_forgiven(tmp_path: Path) -> None:
    folder = ToyFolder(tmp_path).write(golden=golden(logits_robust=LOW + 5e-4))
    assert load_model(folder.path, provider="cpu", threads=1).name == "toy"


def test_folders_are_ordered_by_number(tmp_path: Path) -> None:
    for name in ("b/10", "b/9", "a/1", "a/01", "a/draft", "a/0"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "README.md").write_text("no model")
    (tmp_path / "a" / "2").write_text("no folder")
    assert [str(path.relative_to(tmp_path)) for path in folders(tmp_path)] == ["a/1", "b/9", "b/10"]


def test_empty_or_absent_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="no <name>/<version>/ folder"):
        folders(tmp_path)
    with pytest.raises(ModelRefused, match="no such directory"):
        folders(tmp_path / "absent")


@pytest.fixture
def cached(tmp_path: Path) -> Loader:
    return Loader(provider="cpu", threads=1, cache=tmp_path / "cache")


def entry(loader: Loader) -> Path:
    """The folder of the one optimised network that is kept."""
    assert loader.cache is not None
    (folder,) = loader.cache.iterdir()
    return folder


def anew(loader: Loader) -> Loader:
    """A loader as another start has it."""
    return replace(loader, sessions={})


def test_an_optimised_network_is_taken_at_the_next_start(toy: ToyFolder, cached: Loader) -> None:
    first = cached.load(toy.path)
    made = (entry(cached) / GRAPH_FILE).stat().st_mtime_ns
    second = anew(cached).load(toy.path)
    assert first.session.from_cache
    assert second.session.from_cache
    assert (entry(cached) / GRAPH_FILE).stat().st_mtime_ns == made


def test_a_kept_network_that_breaks_the_promise_is_not_used(
    toy: ToyFolder, tmp_path: Path, cached: Loader, caplog: pytest.LogCaptureFixture
) -> None:
    """Sealed as it should be, and yet another network: the golden values tell."""
    cached.load(toy.path)
    place = entry(cached)
    wrong = toy_network()
    for weight in wrong.graph.initializer:
        values = onnx.numpy_helper.to_array(weight) * np.float32(2)
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    (place / GRAPH_FILE).write_bytes(wrong.SerializeToString())
    seal = {path.name: contract.sha256_file(path) for path in place.iterdir()}
    del seal["seal.json"]
    (place / "seal.json").write_text(json.dumps(seal))
    model = anew(cached).load(toy.path)
    assert not model.session.from_cache
    assert "is not used: model folder" in caplog.text
    assert "off the golden values" in caplog.text
    assert not place.exists()
    assert anew(cached).load(toy.path).session.from_cache  # made anew


def test_a_bad_network_is_refused_with_a_cache_as_without(toy: ToyFolder, cached: Loader) -> None:
    (toy.path / contract.MODEL_FILE).write_bytes(b"no network")
    contract.write_manifest(toy.manifest(), toy.path)
    with pytest.raises(ModelRefused, match=r"model\.onnx cannot be run"):
        cached.load(toy.path)
    assert cached.cache is not None
    assert list(cached.cache.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="limits are those of Unix")
def test_a_full_disk_is_only_told(toy: ToyFolder, tmp_path: Path) -> None:
    """In a process of its own that may write no file of more than 64 bytes."""
    probe = (
        "import logging, resource, sys\n"
        "from pathlib import Path\n"
        "from service.repository import Loader\n"
        "logging.basicConfig(stream=sys.stdout, format='%(message)s')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))\n"
        "folder, cache = map(Path, sys.argv[1:])\n"
        "model = Loader(provider='cpu', threads=1, cache=cache).load(folder)\n"
        "print(model.name, model.session.from_cache, list(cache.iterdir()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe, str(toy.path), str(tmp_path / "cache")],
        capture_output=True,
        text=True,
        check=True,
    )
    *told, said = done.stdout.splitlines()
    assert said == "toy False []"
    assert "cannot be kept" in "".join(told)


def test_a_model_is_warmed_up_to_the_largest_batch_once(
    toy: ToyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    warmed: list[Any] = []
    monkeypatch.setattr(Session, "warm_up", lambda self, *arguments: warmed.append(arguments))
    loader = Loader(provider="cpu", threads=1, max_batch=8)
    ToyFolder(toy.root, version=2).write()
    loader.load(toy.path)
    loader.load(toy.root / "toy" / "2")
    assert warmed == [(contract.INPUT, (1, 4, 4), 8)]
    load_model(toy.path, provider="cpu", threads=1)
    assert len(warmed) == 1


def test_a_batch_that_cannot_be_run_refuses_the_model(
    toy: ToyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warm_up(self: Session, name: str, shape: Any, largest: int) -> None:
        raise SessionError("no memory for 4096 images")

    monkeypatch.setattr(Session, "warm_up", warm_up)
    with pytest.raises(ModelRefused, match="cannot be run: no memory for 4096 images"):
        Loader(provider="cpu", threads=1, max_batch=4096).load(toy.path)


def test_a_directory_that_cannot_be_read_is_refused(
    toy: ToyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(path: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "iterdir", unreadable)
    with pytest.raises(ModelRefused, match="it cannot be read \\(Input/output error\\)"):
        folders(toy.root)
