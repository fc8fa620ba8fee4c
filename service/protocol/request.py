"""A request body of `/v2/models/.../infer` to what is asked: images, outputs, parameters.

Whatever is not understood is refused: an unknown key or parameter may be a misspelt one that was
to tighten a check. Every shape is compared with the model's before anything is made of the data.
Knows neither HTTP nor models: what a model takes comes in as `Terms`.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.errors import BodyEmpty, BodyMalformed, ParameterRefused, TensorRefused, TooManyImages
from service.manifest import Policy
from service.protocol import bulk
from service.protocol.bulk import Numbers
from service.protocol.interface import BYTES, IMAGE
from service.protocol.tensors import (
    Pixels,
    Raw,
    Shape,
    Source,
    TensorSpec,
    read_elements,
    read_pixels,
)

JSON_SIZE = "Inference-Header-Content-Length"  # the header, of requests and of answers

CHOICES = ("policy", "fpr")  # of the parameters, these move what a verdict means

_KEYS = ("id", "inputs", "outputs", "parameters", "model_name", "model_version")
_INPUT_KEYS = ("name", "shape", "datatype", "parameters", "data")
_OUTPUT_KEYS = ("name", "parameters")
_CONTENT_TYPES = {IMAGE: "np", BYTES: "base64"}  # how clients of MLServer call these
_LARGEST_TEXT = 64 << 10  # bytes of JSON beside the data of tensors ...
_TEXT_AN_IMAGE = 512  # ... and for each image, whose base64 may be too short to be lifted
_DIGITS = 18  # of a length; longer ones are beyond any limit, and int() has one of its own
_DIMENSIONS = 8  # no tensor here has more than four


class Parameters(BaseModel):
    """What may stand in a request's `parameters`; the first three as on `/detect`."""

    model_config = ConfigDict(extra="forbid")

    policy: Policy | None = Field(
        None, description="how the verdict is reached; the model's own policy where absent"
    )
    fpr: float | None = Field(
        None, gt=0, lt=1, description="target rate of false alarms; the model's own where absent"
    )
    strict_size: bool = Field(
        False, description="refuse an image of another size than the model's, instead of resizing"
    )
    binary_data_output: bool = Field(
        False, description="outputs as binary data, where they do not say otherwise themselves"
    )
    timeout: int = Field(
        0, ge=0, description="microseconds for the answer, beyond them 504; 0 for the server's own"
    )
    content_type: Literal["np", "base64"] | None = Field(
        None, description="accepted, as clients of MLServer send it; says nothing new"
    )


@dataclass(frozen=True, slots=True)
class Terms:
    """What a request may ask of one model; `policies` says whether it may choose one, or a rate."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_images: int
    policies: bool = True


class Asked(NamedTuple):
    """One output, and how it is to be written."""

    spec: TensorSpec
    binary: bool


@dataclass(frozen=True, slots=True)
class InferRequest:
    """At least one image: (N, C, H, W) float32 in [0, 1], or encoded files."""

    id: str | None
    images: Pixels | list[bytes]
    outputs: tuple[Asked, ...]
    parameters: Parameters


def json_size(announced: bytes | None, size: int) -> int:
    """Bytes of JSON in a body of `size`; the rest is binary data.

    `announced` is what the header JSON_SIZE says.

    Raises:
        BodyEmpty, BodyMalformed: there are none, or not so many.
    """
    if not size:
        raise BodyEmpty
    if announced is None:
        return size
    if not (announced.isdigit() and len(announced) <= _DIGITS):
        raise BodyMalformed(f"{JSON_SIZE} is not a number of bytes")
    length = int(announced)
    if not 0 < length <= size:
        raise BodyMalformed(f"{JSON_SIZE} is {length}, and the body has {size} bytes")
    return length


def read_request(body: bytes, length: int, terms: Terms) -> InferRequest:
    """`length` bytes of JSON, as `json_size` says, then binary data.

    Raises:
        BodyEmpty, BodyMalformed, TooManyImages, TensorRefused, ParameterRefused: by what is wrong.
    """
    text = body if length == len(body) else body[:length]
    parsed = bulk.parse(text, _LARGEST_TEXT + terms.max_images * _TEXT_AN_IMAGE)
    fields = _fields(parsed, _KEYS, "the request")
    parameters = _parameters(fields.get("parameters"), terms)
    outputs = _outputs(fields.get("outputs"), terms, parameters)
    images = _images(fields.get("inputs"), terms, Raw(body, length, len(body) - length))
    return InferRequest(_id(fields.get("id")), images, outputs, parameters)


def _fields(value: object, known: Collection[str], place: str) -> dict[str, Any]:
    """The keys of an object that are not null."""
    if not isinstance(value, dict):
        raise BodyMalformed(f"JSON: {place} is not an object")
    for key in value:
        if key not in known:
            raise BodyMalformed(
                f"JSON: key {key[:80]!r} of {place} is unknown; known: {', '.join(known)}"
            )
    return {key: value for key, value in value.items() if value is not None}


def _parameters(given: object, terms: Terms) -> Parameters:
    try:
        parameters = Parameters.model_validate({} if given is None else given)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        if not fault["loc"]:
            raise BodyMalformed("JSON: parameters is not an object") from None
        name = str(fault["loc"][0])[:80]
        if fault["type"] == "extra_forbidden":
            raise ParameterRefused(name, "unknown here", tuple(Parameters.model_fields)) from None
        raise ParameterRefused(name, fault["msg"]) from None
    for name in CHOICES if not terms.policies else ():
        if name in parameters.model_fields_set:
            raise ParameterRefused(name, "unknown here: not for a request to choose")
    return parameters


def _outputs(given: object, terms: Terms, parameters: Parameters) -> tuple[Asked, ...]:
    """Those asked for, in their order; all where none is named."""
    everywhere = parameters.binary_data_output
    if given is None or given == []:
        return tuple(Asked(spec, everywhere) for spec in terms.outputs)
    if not isinstance(given, list):
        raise BodyMalformed("JSON: outputs is not a list of objects")
    specs = {spec.name: spec for spec in terms.outputs}
    asked: dict[str, Asked] = {}
    for value in given:
        fields = _fields(value, _OUTPUT_KEYS, "an output")
        name = _text(fields.get("name"), "an output's name")
        if name not in specs:
            raise TensorRefused(name, f"no such output; known: {', '.join(specs)}")
        if name in asked:
            raise TensorRefused(name, "asked for twice")
        own = _fields(fields.get("parameters", {}), ("binary_data",), "an output's parameters")
        binary = own.get("binary_data", everywhere)
        if not isinstance(binary, bool):
            raise ParameterRefused("binary_data", "neither true nor false")
        asked[name] = Asked(specs[name], binary)
    return tuple(asked.values())


def _images(given: object, terms: Terms, rest: Raw) -> Pixels | list[bytes]:
    """The images of the one input that is given."""
    names = " or ".join(repr(spec.name) for spec in terms.inputs)
    if given is None or given == []:
        raise BodyEmpty
    if not isinstance(given, list) or len(given) != 1:
        raise BodyMalformed(f"JSON: inputs is not a list of one input, {names}")
    fields = _fields(given[0], _INPUT_KEYS, "an input")
    name = _text(fields.get("name"), "an input's name")
    spec = next((spec for spec in terms.inputs if spec.name == name), None)
    if spec is None:
        raise TensorRefused(name, f"no such input; give {names}")
    if fields.get("datatype") != spec.datatype:
        raise TensorRefused(name, f"its datatype is not {spec.datatype}")
    shape = _shape(fields.get("shape"), spec, terms.max_images)
    source = _source(fields, name, rest)
    if name == IMAGE:
        return read_pixels(source, shape, name)
    return read_elements(source, shape[0], name)


def _shape(given: object, spec: TensorSpec, max_images: int) -> Shape:
    """A shape of the model's, with one image at least."""
    expected = f"[{', '.join('N' if size < 0 else str(size) for size in spec.shape)}]"
    try:
        shape = given.integers(_DIMENSIONS) if isinstance(given, Numbers) else ()
    except ValueError:
        shape = ()
    if shape[1:] != spec.shape[1:] or not shape or shape[0] < 0:
        raise TensorRefused(spec.name, f"its shape is not {expected}")
    if shape[0] == 0:
        raise BodyEmpty
    if shape[0] > max_images:
        raise TooManyImages(max_images)
    return shape


def _source(fields: dict[str, Any], name: str, rest: Raw) -> Source:
    """Where the data of the only input is."""
    known = ("binary_data_size", "content_type")
    own = _fields(fields.get("parameters", {}), known, "an input's parameters")
    if "content_type" in own and own["content_type"] != _CONTENT_TYPES[name]:
        raise ParameterRefused("content_type", f"of {name!r} can only be {_CONTENT_TYPES[name]!r}")
    size = own.get("binary_data_size")
    if size is None:
        if rest.size:
            raise BodyMalformed(f"{rest.size} bytes after the JSON belong to no input")
        if "data" not in fields:
            raise TensorRefused(name, "it has neither data nor binary_data_size")
        data: Source = fields["data"]
        return data
    if "data" in fields:
        raise TensorRefused(name, "it has both data and binary_data_size")
    if type(size) is not int or size != rest.size:
        raise TensorRefused(name, f"its binary_data_size is not the {rest.size} bytes that follow")
    return rest


def _id(given: object) -> str | None:
    if given is None:
        return None
    text = _text(given, "id")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BodyMalformed("JSON: id holds half a character") from None
    return text


def _text(given: object, place: str) -> str:
    if not isinstance(given, str):
        raise BodyMalformed(f"JSON: {place} is not a string of at most {bulk.LONG} characters")
    return given
