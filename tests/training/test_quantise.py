"""From a checkpoint over an int8 network to a model folder that the service verifies, or not."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from rich.console import Console

from service.conformal import Fitted
from service.manifest import DecisionSpec, read_manifest
from service.mixture import Mixture
from service.repository import load_model
from service.scores import Temperature
from tests.training import examinee, stripes
from training import checkpoint, export, int8_document, int8_table, quantise, runtime
from training.calibration_document import Basis
from training.checkpoint import Checkpoint
from training.cli import main
from training.config import ConfigError
from training.data import to_float
from training.decided import Decided
from training.export import ExportError
from training.quantise import Quantise, Quantised, Subjects

BASIS = Basis(
    decided=Decided(
        temperature=Temperature(standard=1.5),
        score="divergence",
        head=None,
        thresholds={"0.01": Fitted(0.9, (0.0, 0.1)), "0.1": Fitted(0.5, (0.05, 0.2))},
        mixture=Mixture(1.0, 2.0, 1.0),
    ),
    policy="score",
    fpr="0.01",
    per_class=False,
    dataset="stripes",
    head=None,
)
SETTINGS = Quantise(count=60, ranges=50, dataset="stripes")


def quiet() -> Console:
    return Console(file=io.StringIO())


@pytest.fixture(scope="module")
def source() -> Checkpoint:
    return stripes.trained()


def subjects(source: Checkpoint) -> Subjects:
    counts = {"validation": 60, "calibration": 200, "test": 300}
    return {split: stripes.subject(source, split, counts[split]) for split in quantise.SPLITS}


@pytest.fixture(scope="module")
def quantised(source: Checkpoint) -> Quantised:
    return SETTINGS(source, subjects(source), BASIS, quiet())


def good(document: dict[str, Any]) -> dict[str, Any]:
    """The same with figures that allow it to be shipped: these few images and tiny kernels may not.

    A network of so few channels is slower in integers.
    """
    figures = document["figures"]
    score = document["score"]
    share = {"value": 1.0, "interval": [0.9, 1.0]}
    return document | {
        "agreement": document["agreement"]
        | {"natural": dict.fromkeys(("standard", "robust", "nonrobust", "flag"), share)},
        "figures": figures | {"int8": figures["float32"]},
        "score": score and score | {"int8": score["float32"]},
        "speed": [{"batch": 1, "float32": 100.0, "int8": 200.0}],
    }


@pytest.fixture
def place(source: Checkpoint, quantised: Quantised, tmp_path: Path) -> Path:
    """The folder of a run with an int8 network that may be shipped."""
    checkpoint.save(tmp_path / checkpoint.WEIGHTS_FILE, source)
    made = replace(quantised, document=good(quantised.document))
    quantise.write(made, tmp_path / int8_document.STEM)
    return tmp_path


def shipped(place: Path) -> Path:
    options = ["--name", "stripes", "--models", str(place / "models"), "--int8"]
    assert main(["export", str(place), *options]) == 0
    return place / "models" / "stripes" / "1"


def test_the_service_takes_it_with_its_own_golden_answers(place: Path, source: Checkpoint) -> None:
    folder = shipped(place)
    model = load_model(folder, provider="cpu", threads=1)
    assert model.manifest.precision == "int8"
    assert "computed in int8" in (folder / "CARD.md").read_text()
    network = onnx.load(folder / "model.onnx").graph
    assert sum(node.op_type == "QuantizeLinear" for node in network.node) > 0
    golden = np.load(folder / "golden.npz")
    answers = runtime.run(folder / "model.onnx", golden["image"])
    for name, array in answers.items():
        np.testing.assert_allclose(golden[name], array, atol=1e-5)
    parity = model.manifest.parity
    assert 0.9 < parity.label_agreement <= 1.0
    assert parity.max_abs_logit_difference > export.LOGIT_TOLERANCE
    weights = checkpoint.load(folder / checkpoint.WEIGHTS_FILE)
    assert weights.header.weights_sha256 == source.header.weights_sha256


def test_the_manifest_is_about_the_int8_network(place: Path, quantised: Quantised) -> None:
    manifest = read_manifest(shipped(place))
    document = quantised.document
    assert manifest.decision == DecisionSpec.model_validate(document["decision"])
    assert manifest.decision.policy == "score"
    assert manifest.decision.threshold != BASIS.decided.thresholds["0.01"].value
    assert manifest.decision.temperatures.standard == 1.5
    calibration = manifest.decision.calibration
    assert calibration is not None
    assert calibration.n_images == sum(calibration.histogram.counts) == 200
    figures = document["figures"]["int8"]
    assert manifest.evaluation.metrics == {
        name: one["value"] for name, one in figures.items() if one["value"] is not None
    }
    assert (manifest.evaluation.n_images, manifest.evaluation.dataset) == (300, "stripes")
    assert "60 of the images were attacked, drawn by seed." in manifest.evaluation.notes


def test_without_a_calibration_eq_12_decides(
    source: Checkpoint, quantised: Quantised, tmp_path: Path
) -> None:
    checkpoint.save(tmp_path / checkpoint.WEIGHTS_FILE, source)
    bare = SETTINGS(source, subjects(source), None, quiet())
    assert bare.network == quantised.network
    assert "was not calibrated" in int8_table.render(bare.document)
    made = replace(bare, document=good(bare.document))
    quantise.write(made, tmp_path / int8_document.STEM)
    assert read_manifest(shipped(tmp_path)).decision == DecisionSpec()


def test_what_was_measured_is_what_the_runtime_says(
    source: Checkpoint, quantised: Quantised, tmp_path: Path
) -> None:
    path = quantise.write(quantised, tmp_path)
    document = json.loads(path.read_text())
    test = stripes.images(300, 3)
    answers = runtime.run(tmp_path / int8_document.NETWORK_FILE, to_float(test.pixels).numpy())
    right = (answers["logits_robust"].argmax(1) == test.label.numpy()).mean()
    figures = document["figures"]
    assert figures["int8"]["accuracy_robust_natural"]["value"] == pytest.approx(right)
    assert figures["float32"]["accuracy_robust_natural"]["value"] == pytest.approx(right, abs=0.02)
    for part in ("natural", "attacked"):
        for one in document["agreement"][part].values():
            assert 0.9 < one["value"] <= 1.0
    attacked = figures["float32"]["accuracy_standard_under_standard_attack"]["value"]
    assert attacked < 0.5 < figures["float32"]["accuracy_standard_natural"]["value"]
    assert [one["batch"] for one in document["speed"]] == [1, 32]


def test_the_report_shows_both(quantised: Quantised, tmp_path: Path) -> None:
    quantise.write(quantised, tmp_path)
    text = (tmp_path / int8_document.TABLE_FILE).read_text()
    for line in int8_table.summary(quantised.document):
        assert f"- {line}" in text
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1
    share = quantised.document["figures"]["int8"]["false_alarm_rate"]["value"]
    row = next(line for line in text.splitlines() if line.startswith("| false alarms"))
    assert f"| {100 * share:.2f} (" in row
    score = text.split("## Score")[1].split("##")[0]
    assert score.count("\n| ") == 1 + len(quantised.document["decision"]["thresholds"])


def test_the_float32_model_beside_it_is_as_before(place: Path) -> None:
    """What `export` does without the option, `int8/` or not."""
    options = ["--name", "stripes", "--models", str(place / "models")]
    assert main(["export", str(place), *options]) == 1  # nobody evaluated it
    assert not (place / "models").exists()


def poor(document: dict[str, Any], folder: Path) -> None:
    agreement = document["agreement"]["natural"]
    document["agreement"]["natural"] = agreement | {"robust": {"value": 0.982, "interval": [0, 1]}}


def other_weights(document: dict[str, Any], folder: Path) -> None:
    document["weights_sha256"] = "0" * 64


def other_network(document: dict[str, Any], folder: Path) -> None:
    (folder / int8_document.NETWORK_FILE).write_bytes(b"another")


def no_network(document: dict[str, Any], folder: Path) -> None:
    (folder / int8_document.NETWORK_FILE).unlink()


def no_figures(document: dict[str, Any], folder: Path) -> None:
    del document["figures"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (poor, "not near enough to float32: labels of the robust way agree on 98.20 %"),
        (other_weights, "is about other weights; quantise this checkpoint first"),
        (other_network, "is not the network that"),
        (no_network, "run `parallax-train quantise` first"),
        (no_figures, "is not what `quantise` writes (KeyError('figures'))"),
    ],
)
def test_refused_with_the_reason_and_nothing_left(
    place: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[dict[str, Any], Path], None],
    said: str,
) -> None:
    path = place / int8_document.STEM / int8_document.JSON_FILE
    document = json.loads(path.read_text())
    spoil(document, path.parent)
    path.write_text(json.dumps(document))
    options = ["--name", "stripes", "--models", str(place / "models")]
    assert main(["export", str(place), *options, "--int8", str(path)]) == 1
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.count("\n") == 1
    assert not (place / "models").exists()


@pytest.mark.parametrize("content", ["[]", "{", "null", '{"weights_sha256": 1}'])
def test_what_is_no_quantisation(place: Path, content: str) -> None:
    path = place / int8_document.STEM / int8_document.JSON_FILE
    path.write_text(content)
    weights = checkpoint.load(place / checkpoint.WEIGHTS_FILE).header.weights_sha256
    with pytest.raises(ConfigError, match="quantise"):
        int8_document.read(path, weights)


def test_single_ways_are_not_int8(place: Path) -> None:
    path = place / int8_document.STEM / int8_document.JSON_FILE
    with pytest.raises(ExportError, match="single ways are float32"):
        export.export(
            place / checkpoint.WEIGHTS_FILE,
            path,
            place / "models",
            name="stripes",
            ways=("robust",),
            int8=path,
        )


def test_figures_of_the_float32_network_are_not_mixed_in(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--name", "stripes", "--int8", "--evaluation", "evaluation.json"]
    assert main(["export", str(place), *options]) == 1
    assert "--int8 has an evaluation and a calibration of its own" in capsys.readouterr().err


def test_a_network_of_one_way_has_nothing_to_keep(source: Checkpoint) -> None:
    config = replace(source.header.config, method="st")
    one = replace(source, header=replace(source.header, config=config))
    with pytest.raises(ConfigError, match="three ways"):
        SETTINGS(one, subjects(source), None, quiet())


def test_too_few_calibration_images_for_the_rate(source: Checkpoint) -> None:
    few = dict(subjects(source)) | {"calibration": stripes.subject(source, "calibration", 60)}
    with pytest.raises(ConfigError, match="60 images are too few"):
        SETTINGS(source, few, BASIS, quiet())
    with pytest.raises(ConfigError, match=r"a rate of 0\.001 needs 999 images"):
        SETTINGS(source, subjects(source), replace(BASIS, fpr="0.001"), quiet())


def test_command(
    source: Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From options to files; a network that may not be shipped is written and says so."""
    checkpoint.save(tmp_path / checkpoint.WEIGHTS_FILE, source)
    made = subjects(source)
    opened = SimpleNamespace(subject=lambda split, **options: made[split])
    monkeypatch.setattr("training.commands.open_checkpoint", lambda path, **options: opened)
    slow = {"float32": 100.0, "int8": 50.0}
    monkeypatch.setattr(runtime, "images_per_second", lambda *arguments: slow)
    assert main(["quantise", str(tmp_path), "--count", "20", "--data-name", "Stripes"]) == 1
    folder = tmp_path / "int8"
    assert sorted(path.name for path in folder.iterdir()) == ["int8.json", "int8.md", "int8.onnx"]
    document = json.loads((folder / "int8.json").read_text())
    assert (document["dataset"], document["attacked"]["n_images"]) == ("Stripes", 20)
    printed = capsys.readouterr().out.splitlines()
    assert "NOT TO BE SHIPPED: at batch 1 it is no faster: 50 images/s against 100" in printed
    assert printed[-1] == "not calibrated: the exported model would know Eq. 12 alone"


def test_faults_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examinee.write_images(tmp_path / "data", ("cat", "dog"))
    examinee.write_checkpoint(
        tmp_path / "checkpoint.safetensors", f"imagefolder:{tmp_path / 'data'}", ("cat", "dog")
    )
    absent = str(tmp_path / "absent.json")
    for options, said in (
        ([], "cut otherwise than in training"),
        (["--calibration", absent], "run `parallax-train calibrate` first"),
    ):
        assert main(["quantise", str(tmp_path), *options]) == 1
        printed = capsys.readouterr().err
        assert said in printed
        assert printed.count("\n") == 1
        assert not (tmp_path / "int8").exists()
