"""`POST /v2/models/.../infer`: read the tensors, examine the images, write tensors down.

What the bytes mean is known to `service.protocol`.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from service.access import charge
from service.body import LARGE, headers_of, off_the_loop, read_body, refuse_encoding
from service.columns import columns, verdicts
from service.connection import while_connected
from service.edge import DEADLINE
from service.errors import RequestError
from service.hot import HotRoute, HotRoutes
from service.images import Upload
from service.lanes import Lane
from service.openapi_protocol import infer_body, infer_responses
from service.pipeline import Entry, Examined, Pipeline
from service.policies import Wish
from service.protocol.request import JSON_SIZE, InferRequest, Terms, json_size, read_request
from service.protocol.response import InferResponse, write_response
from service.request_log import note_examined
from service.routes.model_metadata import MODEL, MODEL_VERSION, Name, Version, terms_of, version_of
from service.settings import Settings

_SIZE_HEADER = JSON_SIZE.lower().encode()
_LARGE_TENSOR = 1 << 20  # bytes; fewer values are checked sooner than a thread is woken
_MICROSECOND = 1e-6


class NoQuery(BaseModel):
    """What is asked for stands in the body; in the address it is refused, not passed over."""

    model_config = ConfigDict(extra="forbid")


Nothing = Annotated[NoQuery, Query()]


def router(pipeline: Pipeline, settings: Settings, hot: HotRoutes) -> APIRouter:
    """Both paths, over one pipeline; `hot` answers them, FastAPI describes them."""
    routes = APIRouter(tags=["open inference protocol"])
    default = pipeline.catalogue.default
    responses = infer_responses()
    body = infer_body(default.manifest.input, terms_of(default, settings))
    tell = columns if settings.disclose == "full" else verdicts
    longest_s = settings.deadline_ms / 1000

    @routes.post(f"{MODEL}/infer", summary="Judge images", responses=responses, openapi_extra=body)
    async def infer(request: Request, query: Nothing, name: Name) -> Response:
        """By the version that answers where none is named."""
        return await answer(request, pipeline.lane(name, None))

    @routes.post(
        f"{MODEL_VERSION}/infer", summary="Judge images", responses=responses, openapi_extra=body
    )
    async def infer_version(
        request: Request, query: Nothing, name: Name, version: Version
    ) -> Response:
        """The ways' probabilities, Eq. 12, score, corrected label and verdict of each image."""
        return await answer(request, pipeline.lane(name, version_of(version)))

    async def answer(request: Request, lane: Lane) -> Response:
        lane.batcher.check_room(1)  # before the body is waited for
        headers = headers_of(request.scope)
        refuse_encoding(headers)
        terms = terms_of(lane.model, settings)
        asked = await _read(await read_body(request.receive), headers.get(_SIZE_HEADER), terms)
        charge(request.scope, len(asked.images))
        entries = await while_connected(request.receive, examine(request, lane, asked))
        note_examined(request.scope, lane.model, entries)
        model = (lane.model.name, lane.model.version)
        return _sent(write_response(asked.id, model, asked.outputs, tell(_whole(entries))))

    async def examine(request: Request, lane: Lane, asked: InferRequest) -> list[Entry]:
        parameters = asked.parameters
        rule = pipeline.rule(lane, Wish(parameters.policy, parameters.fpr))
        deadline: float | None = request.scope.get(DEADLINE)
        if parameters.timeout:
            time_s = min(longest_s, parameters.timeout * _MICROSECOND)
            own = asyncio.get_running_loop().time() + time_s
            deadline = own if deadline is None else min(own, deadline)
        if isinstance(asked.images, list):
            uploads = [Upload(data) for data in asked.images]
            strict = parameters.strict_size
            return await pipeline.examine(
                uploads, lane, rule, strict_size=strict, deadline=deadline
            )
        return await pipeline.examine_tensor(asked.images, lane, rule, deadline=deadline)

    hot.add(HotRoute(f"{MODEL}/infer", NoQuery, infer))
    hot.add(HotRoute(f"{MODEL_VERSION}/infer", NoQuery, infer_version))
    return routes


async def _read(body: bytes, announced: bytes | None, terms: Terms) -> InferRequest:
    length = json_size(announced, len(body))
    large = length > LARGE or len(body) > _LARGE_TENSOR
    return await off_the_loop(partial(read_request, body, length, terms), large=large)


def _whole(entries: Sequence[Entry]) -> list[Examined]:
    """All of them, or the first error: the protocol knows no partial answers."""
    examined = []
    for index, entry in enumerate(entries):
        if isinstance(entry, RequestError):
            raise entry.at(f"image {index}")
        examined.append(entry)
    return examined


def _sent(response: InferResponse) -> Response:
    if response.json_size is None:
        return Response(response.body, media_type="application/json")
    return Response(
        response.body,
        headers={JSON_SIZE: str(response.json_size)},
        media_type="application/octet-stream",
    )
