"""The parts of the OpenAPI document that signatures cannot tell: image bodies, problems, keys.

Examples are real: the base64 text is a PNG of the default model's size and can be sent as it
stands.
"""

import base64
import io
from typing import Any

from fastapi import FastAPI
from PIL import Image, ImageDraw

from service.access import OPEN
from service.errors import RequestError, Unauthorized, request_errors
from service.images import MEDIA_TYPES
from service.manifest import InputSpec
from service.problems import MEDIA_TYPE, PROTOCOL
from service.uploads import FILE_PART, JSON, MULTIPART, UNDECLARED

_BINARY = {"type": "string", "format": "binary"}
_BASE64 = {"type": "string", "contentEncoding": "base64"}


def image_body(spec: InputSpec) -> dict[str, Any]:
    """The request body of an endpoint that takes images of any of the three shapes."""
    example = example_png(spec)
    content: dict[str, Any] = {
        JSON: {
            "schema": {
                "oneOf": [
                    _closed({"image": _BASE64}),
                    _closed({"images": {"type": "array", "items": _BASE64, "minItems": 1}}),
                ]
            },
            "examples": {
                "one": {"summary": "one image", "value": {"image": example}},
                "several": {"summary": "several", "value": {"images": [example, example]}},
            },
        },
        MULTIPART: {
            "schema": _closed({FILE_PART: {"type": "array", "items": _BINARY, "minItems": 1}})
        },
    }
    for media_type in (*MEDIA_TYPES, UNDECLARED):
        content[media_type] = {"schema": _BINARY}
    return {"requestBody": {"required": True, "content": content}}


def problem_responses(answer: Any) -> dict[int | str, dict[str, Any]]:
    """Every status an endpoint can answer with, the codes of the error tree listed by status."""
    return {200: {"model": answer, "description": "Judged"}, **problems(*request_errors())}


def problems(
    *errors: type[RequestError], schema: str = "Problem", media_type: str = MEDIA_TYPE
) -> dict[int | str, dict[str, Any]]:
    """The answers of these errors, by status."""
    codes: dict[int, list[str]] = {}
    for error in errors:
        codes.setdefault(error.status, []).append(f"`{error.code}`")
    return {
        status: {
            "description": ", ".join(codes[status]),
            "content": {media_type: {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
        }
        for status in sorted(codes)
    }


def describe_keys(app: FastAPI) -> None:
    """Say in the app's document that every path but the open ones asks for an API key."""
    written = app.openapi

    def document() -> dict[str, Any]:
        schema = written()  # the same each time
        components = schema["components"]
        if "securitySchemes" not in components:
            components["securitySchemes"] = {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            }
            plain = problems(Unauthorized)
            protocol = problems(Unauthorized, schema="ProtocolError", media_type=JSON)
            for path, operations in schema["paths"].items():
                beneath = path == PROTOCOL or path.startswith(f"{PROTOCOL}/")
                ((status, refusal),) = (protocol if beneath else plain).items()
                for operation in operations.values() if path not in OPEN else ():
                    operation["security"] = [{"bearer": []}, {"header": []}]
                    operation["responses"].setdefault(str(status), refusal)
        return schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's own way to extend it


def example_png(spec: InputSpec) -> str:
    """Base64 of a PNG of the model's size: a white stroke on black."""
    image = Image.new("L" if spec.channels == 1 else "RGB", (spec.width, spec.height))
    right, bottom = spec.width * 0.6, spec.height * 0.85
    stroke = [(spec.width * 0.3, spec.height * 0.15), (right, spec.height * 0.15), (right, bottom)]
    ImageDraw.Draw(image).line(stroke, fill="white", width=max(1, spec.width // 10))
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
