"""The int8 file itself: same doors, integers where they are promised, the same bytes again."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.training import stripes
from training import checkpoint, graph, int8, rounding, runtime
from training.data import to_float
from training.graph import ThreeWayGraph

IMAGES = to_float(stripes.images(60, 1).pixels).numpy()


def write(source: checkpoint.Checkpoint, path: Path) -> Path:
    graph.write(
        ThreeWayGraph(checkpoint.model_of(source)),
        source.averaged,
        to_float(stripes.images(2, 1).pixels),
        path,
        outputs=graph.OUTPUTS,
    )
    return path


@pytest.fixture(scope="module")
def source() -> checkpoint.Checkpoint:
    return stripes.trained()


@pytest.fixture(scope="module")
def plain(source: checkpoint.Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(source, tmp_path_factory.mktemp("int8") / "float32.onnx")


@pytest.fixture(scope="module")
def small(plain: Path) -> Path:
    path = plain.with_name("int8.onnx")
    int8.quantise(plain, path, IMAGES)
    return path


def test_inputs_and_outputs_stay(plain: Path, small: Path) -> None:
    before, after = (onnx.load(path).graph for path in (plain, small))
    assert list(after.input) == list(before.input)
    assert [one.name for one in after.output] == [one.name for one in before.output]


def test_answers_are_near(plain: Path, small: Path) -> None:
    image = to_float(stripes.images(100, 7).pixels).numpy()
    before, after = runtime.run(plain, image), runtime.run(small, image)
    for name in graph.OUTPUTS:
        spread = before[name].std()
        assert 0 < np.abs(after[name] - before[name]).max() < 0.5 * spread


def test_kernels_have_seven_bits_by_channel_and_matrices_are_untouched(
    plain: Path, small: Path
) -> None:
    before, after = (
        {one.name: numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer}
        for path in (plain, small)
    )
    kernels = [name for name, array in before.items() if array.ndim == 4]
    assert len(kernels) == 8
    for name in kernels:
        stored = after[f"{name}_quantized"]
        assert stored.dtype == np.int8
        assert np.abs(stored.astype(int)).reshape(len(stored), -1).max(axis=1).tolist() == (
            [64] * len(stored)
        )
        assert after[f"{name}_scale"].shape == (len(stored),)
        assert name not in after
    matrices = [name for name, array in before.items() if array.ndim == 2]
    assert len(matrices) == 6
    for name in matrices:
        np.testing.assert_array_equal(after[name], before[name])


def test_the_same_images_give_the_same_bytes(plain: Path, small: Path, tmp_path: Path) -> None:
    again, other = tmp_path / "again.onnx", tmp_path / "other.onnx"
    int8.quantise(plain, again, IMAGES)
    int8.quantise(plain, other, (IMAGES / 2).astype(np.float32))
    assert again.read_bytes() == small.read_bytes() != other.read_bytes()


def test_the_file_names_no_place_of_this_machine(plain: Path, small: Path) -> None:
    content = small.read_bytes()
    assert str(plain.parent).encode() not in content
    assert str(Path(int8.__file__).parents[1]).encode() not in content


def test_weights_in_half_precision_are_quantised_alike(
    source: checkpoint.Checkpoint, tmp_path: Path
) -> None:
    plain = write(rounding.rounded(source), tmp_path / "float16.onnx")
    int8.quantise(plain, tmp_path / "int8.onnx", IMAGES)
    before, after = runtime.run(plain, IMAGES), runtime.run(tmp_path / "int8.onnx", IMAGES)
    same = before["logits_standard"].argmax(1) == after["logits_standard"].argmax(1)
    assert same.mean() > 0.95
