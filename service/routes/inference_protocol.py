"""`/v2`: the Open Inference Protocol, for clients of KServe, Triton and Seldon."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from service import __version__
from service.body import LARGE, off_the_loop, read_body, refuse_encoding
from service.columns import columns
from service.connection import while_connected
from service.edge import DEADLINE
from service.errors import (
    BodyMalformed,
    BodyTooLarge,
    ModelUnknown,
    ParameterRefused,
    RequestError,
    ShuttingDown,
    request_errors,
)
from service.hot import HotRoute, HotRoutes
from service.images import Upload
from service.openapi import infer_body, protocol_errors
from service.pipeline import Entry, Examined, Lane, Pipeline
from service.policies import Wish
from service.protocol import interface
from service.protocol.metadata import (
    IndexEntry,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
    described,
    read_index_query,
)
from service.protocol.request import InferRequest, Terms, json_size, read_request
from service.protocol.response import write_response
from service.repository import Model

JSON_SIZE = "Inference-Header-Content-Length"

_LARGE_TENSOR = 1 << 20  # bytes; a check of fewer values is done sooner than a thread is woken
_MICRO = 1e-6
_MODEL = "/v2/models/{name}"
_VERSION = "/v2/models/{name}/versions/{version}"

Name = Annotated[str, Path(description="model name")]
Version = Annotated[str, Path(description="model version", json_schema_extra={"pattern": "^[0-9]+$"})]


class NoQuery(BaseModel):
    """What is asked for stands in the body; a parameter in the address would be passed over."""

    model_config = ConfigDict(extra="forbid")


def router(pipeline: Pipeline, max_images: int, deadline_s: float, hot: HotRoutes) -> APIRouter:
    """All of it, over one pipeline; `hot` answers inference, FastAPI describes it."""
    routes = APIRouter(tags=["open inference protocol"])

    @routes.get("/v2", summary="Who answers")
    async def server() -> ServerMetadata:
        return ServerMetadata(version=__version__)

    @routes.get("/v2/health/live", summary="The process answers")
    async def live() -> ServerLive:
        return ServerLive()

    @routes.get(
        "/v2/health/ready", summary="Images can be sent", responses=protocol_errors(ShuttingDown)
    )
    async def ready() -> ServerReady:
        if not pipeline.ready:
            raise ShuttingDown
        return ServerReady()

    @routes.post(
        "/v2/repository/index",
        summary="What is loaded",
        responses=protocol_errors(BodyMalformed, BodyTooLarge),
        openapi_extra=index_body(),
    )
    async def index(request: Request) -> list[IndexEntry]:
        query = read_index_query(await read_body(request))
        ...
