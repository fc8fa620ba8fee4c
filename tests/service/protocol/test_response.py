"""Response bodies, read back by the rules of the protocol."""

import json
from typing import Any

import numpy as np
import pytest

from service.protocol.interface import outputs
from service.protocol.request import Asked
from service.protocol.response import write_response

COLUMNS: dict[str, Any] = {
    "probabilities_standard": np.array([[0.25, 0.75], [1.0, 0.0]]),
    "probabilities_robust": np.array([[0.5, 0.5], [0.0, 1.0]], np.float32),
    "probabilities_nonrobust": np.array([[0.5, 0.5], [0.0, 1.0]]),
    "adversarial": np.array([True, False]),
    "score": np.array([0.1, 0.9]),
    "label": np.array([1, 0]),
    "verdict": ["corrected", "accept"],
}
SPECS = {spec.name: spec for spec in outputs(2)}


def test_the_columns_are_the_interface() -> None:
    assert list(COLUMNS) == list(SPECS)


def test_json_alone() -> None:
    asked = [Asked(SPECS["label"], False), Asked(SPECS["probabilities_robust"], False)]
    response = write_response("7", ("toy", 3), asked, COLUMNS)
    assert response.json_size is None
    assert json.loads(response.body) == {
        "model_name": "toy",
        "model_version": "3",
        "id": "7",
        "outputs": [
            {"name": "label", "datatype": "INT64", "shape": [2], "data": [1, 0]},
            {
                "name": "probabilities_robust",
                "datatype": "FP32",
                "shape": [2, 2],
                "data": [0.5, 0.5, 0.0, 1.0],
            },
        ],
    }


@pytest.mark.parametrize("binary", [{"score"}, {"score", "verdict"}, set(SPECS)])
def test_binary_data_follow_in_order(binary: set[str]) -> None:
    asked = [Asked(spec, name in binary) for name, spec in SPECS.items()]
    response = write_response(None, ("toy", 3), asked, COLUMNS)
    assert response.json_size is not None
    head = json.loads(response.body[: response.json_size])
    assert "id" not in head
    rest = response.body[response.json_size :]
    dtypes = {"FP32": "<f4", "BOOL": "?", "INT64": "<i8"}
    for output in head["outputs"]:
        name = output["name"]
        if name not in binary:
            np.testing.assert_array_equal(
                np.array(output["data"]).reshape(output["shape"]), np.asarray(COLUMNS[name])
            )
            assert "parameters" not in output
            continue
        assert "data" not in output
        size = output["parameters"]["binary_data_size"]
        data, rest = rest[:size], rest[size:]
        if name == "verdict":
            assert data == b"\x09\0\0\0corrected\x06\0\0\0accept"
        else:
            values = np.frombuffer(data, dtypes[output["datatype"]]).reshape(output["shape"])
            np.testing.assert_allclose(values, COLUMNS[name], rtol=1e-6)
    assert rest == b""
