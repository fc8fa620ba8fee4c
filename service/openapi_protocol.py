"""The parts of the OpenAPI document about `/v2` that signatures cannot tell: bodies and errors."""

from typing import Any

from service.errors import RequestError, request_errors
from service.manifest import InputSpec
from service.openapi import example_png, problems
from service.protocol import bulk, interface
from service.protocol.metadata import IndexQuery, ProtocolError
from service.protocol.request import CHOICES, JSON_SIZE, Parameters, Terms
from service.uploads import JSON, UNDECLARED

_TEXT = {"type": "string", "maxLength": bulk.LONG}
_SHAPE = {"type": "array", "items": {"type": "integer", "minimum": 1}}
_BINARY = {
    "type": "string",
    "format": "binary",
    "description": f"the JSON, whose length the header {JSON_SIZE} gives, then binary data",
}


def infer_body(spec: InputSpec, terms: Terms) -> dict[str, Any]:
    """The request body of inference, with examples that can be sent as they stand."""
    parameters = Parameters.model_json_schema()
    if not terms.policies:
        for name in CHOICES:
            del parameters["properties"][name]
    pixel = {"type": "number", "minimum": 0, "maximum": 1}
    file = {"type": "string", "contentEncoding": "base64"}
    inputs = [
        _input(interface.IMAGE, "FP32", pixel, [1, *spec.shape]),
        _input(interface.BYTES, "BYTES", file, [1]),
    ]
    output = _object(
        {
            "name": {"enum": [output.name for output in terms.outputs]},
            "parameters": _object({"binary_data": {"type": "boolean"}}),
        },
        "name",
    )
    schema = _object(
        {
            "id": _TEXT | {"description": "repeated in the answer"},
            "inputs": {"type": "array", "items": {"oneOf": inputs}, "minItems": 1, "maxItems": 1},
            "outputs": {"type": "array", "items": output, "description": "all where absent"},
            "parameters": parameters,
            "model_name": _TEXT | {"description": "not looked at; the path names the model"},
            "model_version": _TEXT | {"description": "not looked at"},
        },
        "inputs",
    )
    given = {
        "name": interface.BYTES,
        "shape": [1],
        "datatype": "BYTES",
        "data": [example_png(spec)],
    }
    some = [{"name": interface.VERDICT}, {"name": interface.LABEL}]
    examples = {
        "all": {"summary": "an encoded image, all outputs", "value": {"inputs": [given]}},
        "some": {"summary": "two outputs", "value": {"inputs": [given], "outputs": some}},
    }
    content = {JSON: {"schema": schema, "examples": examples}, UNDECLARED: {"schema": _BINARY}}
    return {"requestBody": {"required": True, "content": content}}


def infer_responses() -> dict[int | str, dict[str, Any]]:
    """The answers of inference."""
    output = _object(
        {
            "name": {"type": "string"},
            "datatype": {"enum": ["BOOL", "INT64", "FP32", "BYTES"]},
            "shape": _SHAPE,
            "data": {"type": "array"},
            "parameters": _object({"binary_data_size": {"type": "integer"}}),
        },
        *("name", "datatype", "shape"),
    )
    schema = _object(
        {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "outputs": {"type": "array", "items": output},
        },
        *("model_name", "model_version", "outputs"),
    )
    content = {JSON: {"schema": schema}, UNDECLARED: {"schema": _BINARY}}
    return {200: {"description": "Judged", "content": content}, **errors(*request_errors())}


def index_body() -> dict[str, Any]:
    """The request body of the repository's index."""
    content = {JSON: {"schema": IndexQuery.model_json_schema()}}
    return {"requestBody": {"required": False, "content": content}}


def errors(*kinds: type[RequestError]) -> dict[int | str, dict[str, Any]]:
    """The answers of these errors, by status."""
    return {
        status: {"description": answer["description"], "model": ProtocolError}
        for status, answer in problems(*kinds).items()
    }


def _input(name: str, datatype: str, item: dict[str, Any], example: list[int]) -> dict[str, Any]:
    return _object(
        {
            "name": {"const": name},
            "datatype": {"const": datatype},
            "shape": _SHAPE | {"examples": [example]},
            "data": {"type": "array", "items": item, "minItems": 1},
            "parameters": _object({"binary_data_size": {"type": "integer", "minimum": 0}}),
        },
        *("name", "datatype", "shape"),
    )


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """A closed object."""
    needed = {"required": [*required]} if required else {}
    return {"type": "object", "properties": properties, "additionalProperties": False, **needed}
