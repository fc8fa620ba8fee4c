"""ONNX files asked in batches, and timed in turns."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from training import runtime


def network(path: Path, factor: float) -> Path:
    """One output, the images times a factor."""
    shape: list[str | int | None] = ["N", 2]
    constant = helper.make_tensor("factor", TensorProto.FLOAT, [], [factor])
    graph = helper.make_graph(
        [helper.make_node("Mul", ["pixels", "factor"], ["product"])],
        "times",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("product", TensorProto.FLOAT, shape)],
        [constant],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))
    return path


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_batches_do_not_matter(tmp_path: Path, batch: int) -> None:
    image = np.arange(14, dtype=np.float32).reshape(7, 2)
    answers = runtime.run(network(tmp_path / "twice.onnx", 2.0), image, batch)
    assert list(answers) == ["product"]
    np.testing.assert_array_equal(answers["product"], 2 * image)


def test_every_file_is_timed_by_its_own_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each turn the fast network, then the slow one; the first turn warms up, one was disturbed."""
    taken = [9.0, 9.0, 1.0, 4.0, 1.0, 4.0, 1000.0, 4.0]
    clock = iter([moment for seconds in taken for moment in (0.0, seconds)])
    monkeypatch.setattr("training.runtime.time.process_time", lambda: next(clock))
    paths = {name: network(tmp_path / f"{name}.onnx", 2.0) for name in ("fast", "slow")}
    found = runtime.images_per_second(paths, np.ones((8, 2), np.float32), rounds=3)
    assert found == {"fast": 32.0, "slow": 8.0}  # four runs a turn
