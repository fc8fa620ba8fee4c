"""The stage `export`: what it writes, what it refuses, and that it leaves nothing half-written."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from service.manifest import (
    DETECTOR_FILE,
    LOGITS,
    OUTPUTS,
    DecisionSpec,
    read_manifest,
    sha256_file,
)
from tests.training import examinee
from training import checkpoint, export, graph, rounding, runtime
from training.config import Method
from training.export import ExportError

CLASSES = ("cat", "dog")
OWN = {"name": "linf:0.1:0.01:2", "norm": "linf", "eps": "0.1"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "checkpoint.safetensors"
    examinee.write_checkpoint(path, "mnist:/secret-place/data", CLASSES)
    weights = checkpoint.load(path).header.weights_sha256
    path.with_name("evaluation.json").write_text(json.dumps(evaluation(weights)))
    return path


def evaluation(weights: str) -> dict[str, Any]:
    return {
        "dataset": "stripes",
        "split": "test",
        "n_images": 12,
        "weights_sha256": weights,
        "notes": ["Attacks do not know of the detector."],
        "results": [
            {
                "inputs": "rounded",
                "attack": {"name": "linf:0.2:0.01:2", "norm": "linf", "eps": "0.2"},
                "metrics": {"rad_all": 0.25},
            },
            {"inputs": "float", "attack": OWN, "metrics": {"rad_all": 0.5}},
            {
                "inputs": "rounded",
                "attack": OWN,
                "metrics": {
                    "accuracy_standard_natural": 0.9,
                    "false_alarm_rate": 0.1,
                    "rad_all": 0.75,
                    "rad_successful": None,
                    "threshold_at_fpr_1": 0.1,
                },
            },
        ],
    }


@pytest.fixture(scope="module")
def folder(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("models")
    return export.export(
        source,
        source.with_name("evaluation.json"),
        models,
        name="toy",
        ways=("robust", "nonrobust"),
    )


def test_writes_the_next_version_whole(folder: Path) -> None:
    assert folder.name == "1"
    assert {path.name for path in folder.iterdir()} == {
        "model.onnx",
        "golden.npz",
        "weights.safetensors",
        "robust.onnx",
        "nonrobust.onnx",
        "manifest.json",
        "CARD.md",
    }
    assert [path.name for path in folder.parent.iterdir()] == ["1"]


def test_the_manifest_keeps_the_rounded_figures_and_true_hashes(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert manifest.labels == CLASSES
    assert manifest.provenance.commit == "c0ffee"
    assert manifest.input.shape == (3, 16, 16)
    assert manifest.evaluation.metrics == {
        "accuracy_standard_natural": 0.9,
        "false_alarm_rate": 0.1,
        "rad_all": 0.75,
    }
    assert manifest.parity.label_agreement == 1.0
    assert set(manifest.files) >= {"model.onnx", "golden.npz", "weights.safetensors"}
    for name, entry in manifest.files.items():
        assert sha256_file(folder / name) == entry.sha256


def test_graphs_name_the_contracts_outputs() -> None:
    assert graph.OUTPUTS == OUTPUTS


def test_each_encoder_stands_in_the_graph_once(folder: Path) -> None:
    convolutions = {
        name: sum(node.op_type == "Conv" for node in onnx.load(folder / name).graph.node)
        for name in ("model.onnx", "robust.onnx", "nonrobust.onnx")
    }
    assert convolutions == {"model.onnx": 8, "robust.onnx": 4, "nonrobust.onnx": 4}


@pytest.mark.parametrize("count", [1, 3, 70])
def test_answers_as_torch_does_at_any_batch_size(folder: Path, source: Path, count: int) -> None:
    model, header = checkpoint.load_model(source, torch.device("cpu"))
    image = export.probe_images(header, count)
    answers = runtime.run(folder / "model.onnx", image.numpy())
    assert tuple(answers) == OUTPUTS
    with torch.no_grad():
        expected = model(image)
    for name, logits in zip(LOGITS, expected, strict=True):
        np.testing.assert_allclose(answers[name], logits.numpy(), atol=1e-4)


def test_a_single_way_answers_like_the_whole(folder: Path, source: Path) -> None:
    _, header = checkpoint.load_model(source, torch.device("cpu"))
    image = export.probe_images(header, 5).numpy()
    whole = runtime.run(folder / "model.onnx", image)
    for way in ("robust", "nonrobust"):
        single = runtime.run(folder / f"{way}.onnx", image)
        np.testing.assert_allclose(single["logits"], whole[f"logits_{way}"], atol=1e-5)


def test_shipped_weights_are_the_checkpoints(folder: Path, source: Path) -> None:
    shipped, original = checkpoint.load(folder / "weights.safetensors"), checkpoint.load(source)
    assert shipped.header.config.data.source == "mnist:data"
    config = original.header.config
    moved = replace(config, data=replace(config.data, source="mnist:data"))
    assert shipped.header == replace(original.header, config=moved)
    assert not shipped.model


@pytest.fixture(scope="module")
def rounded(source: Path) -> Path:
    """Rounded weights with their evaluation beside them."""
    path = source.parent / "float16" / checkpoint.WEIGHTS_FILE
    made = rounding.rounded(checkpoint.load(source))
    checkpoint.save(path, made)
    document = evaluation(made.header.weights_sha256)
    path.with_name("evaluation.json").write_text(json.dumps(document))
    return path


@pytest.fixture(scope="module")
def half(rounded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("models")
    return export.export(rounded, rounded.with_name("evaluation.json"), models, name="toy")


def test_rounded_weights_lie_in_the_graph_alone(half: Path, rounded: Path) -> None:
    files = {"model.onnx", "golden.npz", "manifest.json", "CARD.md"}
    assert {path.name for path in half.iterdir()} == files
    made = checkpoint.load(rounded)
    for place in (half, half / "model.onnx"):
        shipped = checkpoint.load(checkpoint.of(place))
        assert shipped.header == replace(made.header, config=shipped.header.config)
        assert shipped.averaged.keys() == made.averaged.keys()
        for name, weight in made.averaged.items():
            assert shipped.averaged[name].dtype == weight.dtype
            assert torch.equal(shipped.averaged[name], weight)


def test_a_folder_of_rounded_weights_says_so(half: Path, source: Path, rounded: Path) -> None:
    manifest = read_manifest(half)
    before, after = (checkpoint.load(path).header.weights_sha256 for path in (source, rounded))
    assert manifest.provenance.data_hashes["weights"] == after
    assert manifest.provenance.data_hashes["weights_before_rounding"] == before
    said = "rounded to half precision, and the rounded weights were measured"
    assert said in (half / "CARD.md").read_text()
    assert b"secret-place" not in (half / "model.onnx").read_bytes()


def test_the_graph_of_plain_weights_is_no_checkpoint(folder: Path) -> None:
    with pytest.raises(checkpoint.CheckpointError, match=r"look for weights\.safetensors"):
        checkpoint.load(folder / "model.onnx")


def test_rounded_weights_that_the_graph_lost_are_not_shipped(
    rounded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = graph.write

    def careless(network: Any, weights: dict[str, torch.Tensor], **options: Any) -> None:
        bias = "head.2.bias"
        honest(network, {**weights, bias: weights[bias] + 1e-7}, **options)

    monkeypatch.setattr(graph, "write", careless)
    with pytest.raises(ExportError, match=r"does not hold the weights whole: .* their hash"):
        export.export(rounded, rounded.with_name("evaluation.json"), tmp_path, name="toy")
    assert not (tmp_path / "toy").exists()


def test_the_files_name_no_place_of_this_machine(folder: Path) -> None:
    code, data = str(Path(export.__file__).parents[1]).encode(), b"secret-place"
    for path in folder.iterdir():
        content = path.read_bytes()
        assert code not in content, path.name
        assert data not in content, path.name


def test_the_card_says_what_was_measured_and_what_is_not_promised(folder: Path) -> None:
    card = (folder / "CARD.md").read_text()
    assert "| `rad_all` | 0.7500 |" in card
    assert "stripes, test split, 12 images" in card
    assert "promise nothing" in card


def test_a_version_is_never_written_twice(folder: Path, source: Path) -> None:
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(ExportError, match="exists"):
        export.export(
            source, source.with_name("evaluation.json"), folder.parents[1], name="toy", version=1
        )
    assert (folder / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weights_sha256": "0" * 64}, "other weights"),
        ({"results": []}, "no attack of linf 0.1 on test images"),
        ({"split": "train"}, "no attack of linf 0.1 on test images"),
        ({"results": [1]}, "not an evaluation"),
        ({"n_images": 0}, "not an evaluation"),
    ],
)
def test_refuses_an_evaluation_that_does_not_fit(
    source: Path, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    weights = checkpoint.load(source).header.weights_sha256
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(evaluation(weights) | change))
    with pytest.raises(ExportError, match=said):
        export.export(source, path, tmp_path / "models", name="toy")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("kind", "said"),
    [("logits", r"differ by 0\.01 in a logit"), ("z", r"z_\w+ of ONNX Runtime and torch differ")],
)
def test_a_graph_that_differs_from_torch_is_not_shipped(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, said: str
) -> None:
    honest = runtime.run

    def shifted(path: Path, image: np.ndarray, batch: int = 64) -> dict[str, np.ndarray]:
        answers = honest(path, image, batch)
        return {name: values + 0.01 * name.startswith(kind) for name, values in answers.items()}

    monkeypatch.setattr(runtime, "run", shifted)
    with pytest.raises(ExportError, match=said):
        export.export(source, source.with_name("evaluation.json"), tmp_path / "models", name="toy")
    assert not (tmp_path / "models").exists()


def test_evaluate_comes_first(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"run `parallax-train evaluate` first"):
        export.export(source, tmp_path / "evaluation.json", tmp_path / "models", name="toy")


@pytest.mark.parametrize("content", ["[]", "{", "null", '{"weights_sha256": 1}'])
def test_what_is_no_evaluation(source: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "evaluation.json").write_text(content)
    with pytest.raises(ExportError, match="evaluation"):
        export.export(source, tmp_path / "evaluation.json", tmp_path / "models", name="toy")


def calibration(weights: str, **changes: Any) -> dict[str, Any]:
    """With a score that needs no file beside it."""
    decision = {
        "policy": "score",
        "score": "divergence",
        "fpr": "0.01",
        "threshold": 0.25,
        "thresholds": {"0.01": {"value": 0.25, "interval": [0.005, 0.02], "per_class": None}},
        "temperatures": {"standard": 1.5, "robust": 1.0, "nonrobust": 2.0},
        "mixture": {"weight": 0.6, "scale": 2.0, "power": 1.0},
        "calibration": {
            "dataset": "stripes",
            "n_images": 300,
            "sha256": "1" * 64,
            "created": "2026-01-01T00:00:00+00:00",
            "histogram": {"edges": [0.0, 0.5, 1.0], "counts": [200, 100]},
            "notes": [],
        },
    }
    return {"weights_sha256": weights, "decision": decision | changes, "detector_sha256": None}


def exported(source: Path, place: Path, document: dict[str, Any]) -> Path:
    path = place / "calibration.json"
    path.write_text(json.dumps(document))
    return export.export(
        source, source.with_name("evaluation.json"), place / "models", name="toy", calibration=path
    )


def test_a_calibration_becomes_the_decision(source: Path, tmp_path: Path) -> None:
    document = calibration(checkpoint.load(source).header.weights_sha256)
    folder = exported(source, tmp_path, document)
    decision = read_manifest(folder).decision
    assert decision == DecisionSpec.model_validate(document["decision"])
    assert not (folder / DETECTOR_FILE).exists()
    card = (folder / "CARD.md").read_text()
    assert "`score` is the default, at a rate of 0.01." in card
    assert "| 0.01 | 0.25 | 0.0050 to 0.0200 |" in card
    assert "Under any attack within linf 0.1 it accepts" in card


def test_without_one_eq_12_decides(folder: Path) -> None:
    assert read_manifest(folder).decision == DecisionSpec()
    assert "policy" not in (folder / "CARD.md").read_text()


def test_the_head_travels_with_its_score(source: Path, tmp_path: Path) -> None:
    weights = checkpoint.load(source).header.weights_sha256
    head = tmp_path / DETECTOR_FILE
    head.write_bytes(b"weights of a head")
    document = calibration(weights, score="head") | {"detector_sha256": sha256_file(head)}
    folder = exported(source, tmp_path, document)
    assert (folder / DETECTOR_FILE).read_bytes() == head.read_bytes()
    assert read_manifest(folder).files[DETECTOR_FILE].sha256 == sha256_file(head)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weights_sha256": "0" * 64}, "about other weights; calibrate this checkpoint first"),
        ({"decision": None}, r"decision: Input should be a valid dictionary"),
        ({"decision": {"policy": "magic"}}, r"decision\.policy: Input should be"),
        ({"decision": {"policy": "strict"}}, "policy strict needs a default rate"),
        ({"decision": {"score": "head"}}, r"there is no .*detector\.npz; run `parallax-train cal"),
    ],
)
def test_refuses_a_calibration_that_does_not_fit(
    source: Path, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    document = calibration(checkpoint.load(source).header.weights_sha256) | change
    with pytest.raises(ExportError, match=said):
        exported(source, tmp_path, document)
    assert not (tmp_path / "models").exists()


def test_refuses_a_calibration_of_another_head(source: Path, tmp_path: Path) -> None:
    weights = checkpoint.load(source).header.weights_sha256
    (tmp_path / DETECTOR_FILE).write_bytes(b"another")
    document = calibration(weights, score="head") | {"detector_sha256": "0" * 64}
    with pytest.raises(ExportError, match=r"is not the head that .* is about"):
        exported(source, tmp_path, document)


@pytest.mark.parametrize("content", ["[]", "{", "null", '{"weights_sha256": 1}'])
def test_what_is_no_calibration(source: Path, tmp_path: Path, content: str) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(content)
    with pytest.raises(ExportError, match="calibrat"):
        export.export(
            source,
            source.with_name("evaluation.json"),
            tmp_path / "models",
            name="toy",
            calibration=path,
        )


@pytest.mark.parametrize("method", ["st", "at"])
def test_a_method_of_one_way_makes_no_detector(tmp_path: Path, method: Method) -> None:
    path = tmp_path / "checkpoint.safetensors"
    examinee.write_checkpoint(path, "mnist:data", CLASSES, method)
    with pytest.raises(ExportError, match=f"method {method} trains the .* way alone"):
        export.export(path, tmp_path / "evaluation.json", tmp_path / "models", name="toy")


def test_an_impossible_name_leaves_nothing(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="'Not A Name' is no name; use a-z"):
        export.export(
            source, source.with_name("evaluation.json"), tmp_path / "models", name="Not A Name"
        )
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
