"""A model small enough to read: each way's logits are ten times three pixels of the image.

Row 0 of the image speaks to the standard way, row 1 to the robust one, row 2 to the non-robust one:
the brightest of a row's first three pixels is the label that the way sees. So agreement and
disagreement are drawn by hand.
"""

import datetime
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from service import manifest as contract
from service.manifest import (
    CalibrationSpec,
    DecisionSpec,
    Evaluation,
    Histogram,
    InputSpec,
    Manifest,
    Parity,
    Provenance,
    ThreatModel,
    Threshold,
    file_entry,
    write_manifest,
)

CLASSES = 3
GAIN = 10.0
LABELS = ("cat", "dog", "owl")


def toy_network(
    channels: int = 1,
    height: int = 4,
    width: int = 4,
    *,
    rename: dict[str, str] | None = None,
    batch: int | str = "N",
    classes: int = CLASSES,
    poison: bool = False,
) -> onnx.ModelProto:
    """Logits of way w for class k: GAIN * pixel[channel 0, row w, column k]; features: row 3.

    `poison` divides by the pixel at row 3, column 3, so that a black one gives infinities.
    """
    size = channels * height * width
    names = dict(zip(contract.OUTPUTS, contract.OUTPUTS, strict=True)) | (rename or {})
    nodes = [helper.make_node("Flatten", [contract.INPUT], ["flat"], axis=1)]
    constants = []
    outputs = []
    for row, name in enumerate(contract.OUTPUTS):
        columns = classes if name in contract.LOGITS else 2
        weight = np.zeros((size, columns), np.float32)
        for column in range(min(columns, width)):
            weight[min(row, 3) * width + column, column] = GAIN
        constants.append(numpy_helper.from_array(weight, f"weight_{row}"))
        product = f"product_{row}" if poison else names[name]
        nodes.append(helper.make_node("MatMul", ["flat", f"weight_{row}"], [product]))
        if poison:
            nodes.append(helper.make_node("Div", [product, "last"], [names[name]]))
        outputs.append(
            helper.make_tensor_value_info(names[name], TensorProto.FLOAT, [batch, columns])
        )
    if poison:
        constants.append(numpy_helper.from_array(np.array([3 * width + 3]), "corner"))
        nodes.insert(1, helper.make_node("Gather", ["flat", "corner"], ["last"], axis=1))
    graph = helper.make_graph(
        nodes,
        "toy",
        [
            helper.make_tensor_value_info(
                contract.INPUT, TensorProto.FLOAT, [batch, channels, height, width]
            )
        ],
        outputs,
        constants,
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="toy"
    )


def toy_answers(image: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """What the toy network says about (n, C, H, W), computed apart from it."""
    answers = {name: GAIN * image[:, 0, row, :3] for row, name in enumerate(contract.LOGITS)}
    return answers | dict.fromkeys(contract.FEATURES, GAIN * image[:, 0, 3, :2])


@dataclass
class ToyFolder:
    """A model folder under construction; `write` makes it valid, tests then break it."""

    root: Path
    name: str = "toy"
    version: int = 1
    channels: int = 1
    height: int = 4
    width: int = 4
    changes: dict[str, Any] = field(default_factory=dict)
    head: dict[str, Any] | None = None  # arrays of detector.npz; the score is then `head`

    @property
    def path(self) -> Path:
        return self.root / self.name / str(self.version)

    def write(
        self,
        network: onnx.ModelProto | None = None,
        golden: dict[str, Any] | None = None,
    ) -> "ToyFolder":
        self.path.mkdir(parents=True, exist_ok=True)
        shape = (self.channels, self.height, self.width)
        network = network or toy_network(*shape)
        (self.path / contract.MODEL_FILE).write_bytes(network.SerializeToString())
        if golden is None:
            image = np.random.default_rng(0).random((4, *shape), np.float32)
            golden = {contract.INPUT: image, **toy_answers(image)}
        np.savez(self.path / contract.GOLDEN_FILE, **golden)
        if self.head is not None:
            np.savez(self.path / contract.DETECTOR_FILE, **self.head)
            decision = self.changes.get("decision", DecisionSpec())
            self.changes["decision"] = decision.model_copy(update={"score": "head"})
        write_manifest(self.manifest(), self.path)
        return self

    def manifest(self) -> Manifest:
        values: dict[str, Any] = {
            "name": self.name,
            "version": self.version,
            "created": datetime.datetime(2025, 1, 2, tzinfo=datetime.UTC),
            "description": "three pixels a way",
            "files": {
                name: file_entry(self.path / name)
                for name in (contract.MODEL_FILE, contract.GOLDEN_FILE, contract.DETECTOR_FILE)
                if (self.path / name).exists()
            },
            "input": InputSpec(channels=self.channels, height=self.height, width=self.width),
            "labels": LABELS,
            "threat_model": ThreatModel(norm="linf", eps="8/255"),
            "evaluation": Evaluation(
                dataset="toy", split="test", n_images=4, metrics={"standard_natural": 1.0}
            ),
            "provenance": Provenance(
                commit="none",
                config={"width": 4},
                config_hash="none",
                seed=0,
                checkpoint_sha256="0" * 64,
                data_hashes={},
                torch_version="none",
                trained_on="by hand",
                duration_s=0.0,
            ),
            "parity": Parity(
                onnxruntime_version="1",
                n_inputs=4,
                label_agreement=1.0,
                max_abs_logit_difference=0.0,
            ),
        }
        return Manifest(**(values | self.changes))


def toy_head(**changes: Any) -> dict[str, Any]:
    """A head that sees the first robust feature: the score is a sigmoid of GAIN * row 3's first."""
    inputs = 2 * 2 + 3 * CLASSES
    return {
        "mean": np.zeros(inputs),
        "scale": np.ones(inputs),
        "hidden_weight": np.eye(1, inputs),
        "hidden_bias": np.zeros(1),
        "output_weight": np.ones(1),
        "output_bias": np.float64(0.0),
    } | changes


def calibrated(**changes: Any) -> DecisionSpec:
    """Thresholds 0.3 and 0.6 for the rates 0.1 and 0.01; most calibration scores are near 0."""
    values: dict[str, Any] = {
        "fpr": "0.1",
        "thresholds": {
            "0.01": Threshold(value=0.6, interval=(0.005, 0.02)),
            "0.1": Threshold(value=0.3, interval=(0.08, 0.12)),
        },
        "calibration": CalibrationSpec(
            dataset="toy",
            n_images=1000,
            sha256="0" * 64,
            created=datetime.datetime(2025, 1, 2, tzinfo=datetime.UTC),
            histogram=Histogram(edges=(0.0, 0.1, 0.3, 0.6, 1.0), counts=(800, 100, 90, 10)),
        ),
    }
    return DecisionSpec(**(values | changes))


def pixels(standard: int, robust: int, nonrobust: int, size: int = 4) -> NDArray[np.uint8]:
    """(size, size) image in which each way sees the given label, with probability 0.9999."""
    image = np.zeros((size, size), np.uint8)
    for row, label in enumerate((standard, robust, nonrobust)):
        image[row, label] = 255
    image[3, 3] = 255
    return image


def encode(array: NDArray[Any] | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of an image file."""
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


NATURAL = encode(pixels(1, 1, 1))
ATTACKED = encode(pixels(2, 1, 2))


def unsure(standard: int, robust: int, nonrobust: int) -> bytes:
    """The same, but the robust way believes the next class nearly as much: 0.55 to 0.45."""
    image = pixels(standard, robust, nonrobust)
    image[1, (robust + 1) % CLASSES] = 250
    return encode(image)


def natural_images(folder: Path, count: int) -> list[Path]:
    """Distinct files on which the ways agree, scores from 0 to 0.2; the same in every run."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    files = [folder / f"{number:04}.png" for number in range(count)]
    for number, file in enumerate(files):
        label = number % CLASSES
        image = pixels(label, label, label)
        image[1, (label + 1) % CLASSES] = random.integers(0, 220)
        image[:2, 3] = divmod(number, 256)  # no way looks there
        file.write_bytes(encode(image))
    return files
