"""What `calibrate` wrote comes back as it was; anything else is refused in a sentence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.test_calibrate import SETTINGS, quiet, subjects
from training import calibrate, calibration_document
from training.calibrate import Calibration
from training.config import ConfigError

WEIGHTS = "1" * 64  # of the model on paper


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    """With the head as its score."""
    return calibrate.Calibrate(**vars(SETTINGS) | {"score": "head"})(subjects(), quiet())


@pytest.fixture
def path(calibration: Calibration, tmp_path: Path) -> Path:
    return calibrate.write(calibration, tmp_path)


def test_the_same_decision_comes_back(calibration: Calibration, path: Path) -> None:
    basis = calibration_document.read(path, WEIGHTS)
    decision = json.loads(json.dumps(calibration.document["decision"]))
    again = json.loads(json.dumps(basis.decided.manifest(basis.policy, basis.fpr)))
    assert again == {name: decision[name] for name in again}
    assert basis.head == path.with_name("detector.npz").read_bytes()
    assert (basis.dataset, basis.per_class) == ("MNIST", False)
    head, made = basis.decided.head, calibration.head
    assert head is not None
    assert made is not None
    np.testing.assert_array_equal(head.hidden_weight, made.hidden_weight)
    assert head.output_bias == made.output_bias


def other_weights(document: dict[str, Any], folder: Path) -> None:
    document["weights_sha256"] = "2" * 64


def other_head(document: dict[str, Any], folder: Path) -> None:
    document["detector_sha256"] = "2" * 64


def no_head(document: dict[str, Any], folder: Path) -> None:
    (folder / "detector.npz").unlink()


def no_decision(document: dict[str, Any], folder: Path) -> None:
    del document["decision"]


def odd_threshold(document: dict[str, Any], folder: Path) -> None:
    document["decision"]["thresholds"]["0.01"] = 0.5


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (other_weights, "is about other weights; calibrate this checkpoint first"),
        (other_head, "is not the head that .* is about; calibrate again"),
        (no_head, r"there is no .*detector\.npz; run `parallax-train calibrate` first"),
        (no_decision, "is not a calibration"),
        (odd_threshold, "is not a calibration"),
    ],
)
def test_refused(path: Path, spoil: Callable[[dict[str, Any], Path], None], said: str) -> None:
    document = json.loads(path.read_text())
    spoil(document, path.parent)
    path.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match=said):
        calibration_document.read(path, WEIGHTS)


@pytest.mark.parametrize("content", ["[]", "{", "null", '{"weights_sha256": 1}'])
def test_no_calibration_at_all(tmp_path: Path, content: str) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match="calibrat"):
        calibration_document.read(path, WEIGHTS)
