"""ONNX files with weights by name: what is read back, what a runtime makes of half precision."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from training import graph
from training.graph import GraphError, OneWayGraph, ThreeWayGraph
from training.three_way import ThreeWayModel

OUTPUTS = ("s", "r", "n", "z_r", "z_n")
IMAGE = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model() -> ThreeWayModel:
    """With BatchNorm that has seen images, and kernels that half precision holds exactly."""
    torch.manual_seed(0)
    robust, nonrobust = (
        nn.Sequential(
            *(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        )
        for _ in range(2)
    )
    made = ThreeWayModel(robust, nonrobust, features=4, classes=3)
    made.train()(torch.rand(8, 1, 16, 16))
    state = made.state_dict()
    made.load_state_dict({n: w.half() if w.ndim > 1 else w for n, w in state.items()})
    return made.eval()


def halved(model: ThreeWayModel) -> dict[str, Tensor]:
    state = model.state_dict()
    return {name: w.half() if w.ndim > 1 else w for name, w in state.items()}


@pytest.fixture(scope="module")
def files(model: ThreeWayModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs")
    stored = {"full": dict(model.state_dict()), "half": halved(model)}
    for name, weights in stored.items():
        path, whole = folder / f"{name}.onnx", ThreeWayGraph(model)
        graph.write(whole, weights, IMAGE, path, outputs=OUTPUTS, prefix="w.", note=f"of {name}")
    path, single = folder / "robust.onnx", OneWayGraph(model, "robust")
    graph.write(single, halved(model), IMAGE, path, outputs=["r"])
    return folder


def run(path: Path, image: Tensor = IMAGE) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_inputs()] == ["image"]
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": image.numpy()}), strict=True))


@pytest.mark.parametrize("kind", ["full", "half"])
def test_weights_are_read_back_bit_for_bit(files: Path, model: ThreeWayModel, kind: str) -> None:
    """Also those that are equal to one another, as fresh biases are, or could be folded away."""
    note, read = graph.read(files / f"{kind}.onnx", "w.")
    stored = halved(model) if kind == "half" else model.state_dict()
    expected = {f"w.{name}": w for name, w in stored.items() if "num_batches" not in name}
    assert note == f"of {kind}"
    assert read.keys() == expected.keys()
    for name, weight in expected.items():
        assert read[name].dtype == weight.dtype
        assert torch.equal(read[name], weight), name


@pytest.mark.parametrize("count", [1, 3])
def test_half_precision_computes_in_float32(files: Path, model: ThreeWayModel, count: int) -> None:
    """Equal, not close: the same numbers, only stored shorter."""
    half, full = (run(files / f"{kind}.onnx", IMAGE[:count]) for kind in ("half", "full"))
    with torch.no_grad():
        answered = ThreeWayGraph(model)(IMAGE[:count])
    for name, expected in zip(OUTPUTS, answered, strict=True):
        assert half[name].dtype == np.float32
        assert np.array_equal(half[name], full[name])
        np.testing.assert_allclose(half[name], expected.numpy(), atol=1e-5)


def test_the_runtime_folds_the_casts(files: Path, tmp_path: Path) -> None:
    """What then runs is the float32 graph, with BatchNorm folded into convolutions as there."""

    def optimised(kind: str) -> Counter[str]:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # saving such a graph is warned of
        options.optimized_model_filepath = str(tmp_path / f"{kind}.onnx")
        onnxruntime.InferenceSession(
            str(files / f"{kind}.onnx"), options, providers=["CPUExecutionProvider"]
        )
        network = onnx.load(tmp_path / f"{kind}.onnx").graph
        assert TensorProto.FLOAT16 not in {part.data_type for part in network.initializer}
        return Counter(node.op_type for node in network.node)

    half = optimised("half")
    assert half == optimised("full")
    assert half["Cast"] == 0
    assert (
        half["BatchNormalization"]
        < Counter(node.op_type for node in onnx.load(files / "half.onnx").graph.node)[
            "BatchNormalization"
        ]
    )


def test_a_single_way_holds_its_own_encoder_alone(files: Path) -> None:
    _, read = graph.read(files / "robust.onnx", "encoder_")
    assert {name.partition(".")[0] for name in read} == {"encoder_robust"}
    np.testing.assert_allclose(
        run(files / "robust.onnx")["r"], run(files / "half.onnx")["r"], atol=1e-6
    )


def holding(part: TensorProto) -> Callable[[Path], None]:
    model = helper.make_model(helper.make_graph([], "", [], [], [part]))

    def write(path: Path) -> None:
        path.write_bytes(model.SerializeToString())

    return write


def elsewhere() -> TensorProto:
    """An initialiser that lies in another file, which is not followed."""
    part = numpy_helper.from_array(np.zeros(2, np.float32), "w.a")
    onnx.external_data_helper.set_external_data(part, "half.onnx")
    part.ClearField("raw_data")
    return part


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (Path.unlink, "No such file"),
        (lambda path: path.write_text("no ONNX file"), "damaged"),
        (cut, "damaged"),
        (holding(helper.make_tensor("w.a", TensorProto.STRING, [1], ["x"])), "damaged"),  # type: ignore[list-item]
        (holding(elsewhere()), "w.a lies in another file"),
    ],
)
def test_damaged(files: Path, tmp_path: Path, damage: Callable[[Path], None], fault: str) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes((files / "half.onnx").read_bytes())
    damage(path)
    with pytest.raises(GraphError, match=fault):
        graph.read(path, "w.")
