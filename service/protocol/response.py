"""Outputs to a response body: JSON, then the binary data of those outputs that are asked for so.

Knows names, types and columns; not how the values come about.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from service.protocol.request import Asked
from service.protocol.tensors import Column, to_binary
from service.protocol.tensors import to_json as to_list


@dataclass(frozen=True, slots=True)
class InferResponse:
    """A body; `json_size` is the length of its JSON where binary data follow."""

    body: bytes
    json_size: int | None


def write_response(
    request_id: str | None,
    model: tuple[str, int],
    asked: Sequence[Asked],
    columns: Mapping[str, Column],
) -> InferResponse:
    """The outputs in the order asked for. `model` is name and version; columns have N entries."""
    outputs: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for output in asked:
        spec, column = output.spec, columns[output.spec.name]
        entry: dict[str, Any] = {
            "name": spec.name,
            "datatype": spec.datatype,
            "shape": [len(column), *spec.shape[1:]],
        }
        if output.binary:
            data = to_binary(column, spec.datatype)
            tail.append(data)
            entry["parameters"] = {"binary_data_size": len(data)}
        else:
            entry["data"] = to_list(column)
        outputs.append(entry)
    head: dict[str, Any] = {"model_name": model[0], "model_version": str(model[1])}
    if request_id is not None:
        head["id"] = request_id
    text = to_json(head | {"outputs": outputs})
    if not tail:
        return InferResponse(text, None)
    return InferResponse(b"".join((text, *tail)), len(text))
