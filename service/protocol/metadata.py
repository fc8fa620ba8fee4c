"""What a server says of itself and of its models, in the protocol's words."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.errors import BodyMalformed
from service.protocol import bulk
from service.protocol.tensors import Datatype, TensorSpec

_INDEX_QUERY = 1 << 10  # bytes


class ServerMetadata(BaseModel):
    """`GET /v2`."""

    name: Literal["parallax"] = "parallax"
    version: str
    extensions: tuple[str, ...] = ("binary_tensor_data", "parameters")


class TensorMetadata(BaseModel):
    """A tensor; -1 is a size that each request chooses."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]


class ModelMetadata(BaseModel):
    """`GET /v2/models/{name}`."""

    name: str
    versions: list[str] = Field(description="all that are loaded")
    platform: Literal["onnxruntime_onnx"] = "onnxruntime_onnx"
    inputs: list[TensorMetadata] = Field(description="a request gives one of them")
    outputs: list[TensorMetadata]


class ServerLive(BaseModel):
    """`GET /v2/health/live`."""

    live: Literal[True] = True


class ServerReady(BaseModel):
    """`GET /v2/health/ready`."""

    ready: Literal[True] = True


class ModelReady(BaseModel):
    """`GET /v2/models/{name}/ready`."""

    name: str
    ready: Literal[True] = True


class IndexQuery(BaseModel):
    """The body of `POST /v2/repository/index`; it may be empty."""

    model_config = ConfigDict(extra="forbid")

    ready: bool = Field(False, description="only models that are ready")


class IndexEntry(BaseModel):
    """One version of a model, as Triton lists it."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str = ""


class ProtocolError(BaseModel):
    """Any error under `/v2`: words for people, and the code of `/problems/{code}`."""

    error: str
    code: str


def described(specs: tuple[TensorSpec, ...]) -> list[TensorMetadata]:
    """Tensors as metadata list them."""
    return [TensorMetadata(name=s.name, datatype=s.datatype, shape=s.shape) for s in specs]


def read_index_query(body: bytes) -> IndexQuery:
    """
    Raises:
        BodyMalformed: it is not one.
    """
    try:
        return IndexQuery.model_validate(bulk.parse(body, _INDEX_QUERY) if body.strip() else {})
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(str(part)[:80] for part in fault["loc"]) or "the request"
        raise BodyMalformed(f"JSON: {place}: {fault['msg']}") from None
