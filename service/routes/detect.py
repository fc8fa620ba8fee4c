"""`POST /classify` and `POST /detect`: read the images, examine them, write the answer down."""

from collections.abc import Callable
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, SerializeAsAny
from starlette.responses import Response

from service.access import charge
from service.answers import classification, detection, verdict
from service.connection import while_connected
from service.edge import DEADLINE
from service.errors import RequestError
from service.hot import HotRoute, HotRoutes
from service.lanes import Lane
from service.openapi import image_body, problem_responses
from service.pipeline import Examined, Pipeline
from service.policies import Wish
from service.problems import problem
from service.request_log import note_examined
from service.schemas import (
    Classification,
    Classifications,
    ClassifyQuery,
    Detection,
    Detections,
    DetectQuery,
    ImageQuery,
    Refusal,
    Verdict,
    Verdicts,
)
from service.settings import Disclosure
from service.uploads import read_uploads


def router(
    pipeline: Pipeline, max_images: int, hot: HotRoutes, disclose: Disclosure = "full"
) -> APIRouter:
    """Both endpoints, over one pipeline; `hot` answers them, FastAPI describes them."""
    routes = APIRouter(tags=["images"])
    body = image_body(pipeline.catalogue.default.manifest.input)

    async def examine(
        request: Request,
        query: ImageQuery,
        wish: Wish,
        lane: Lane,
        write: Callable[[Examined], BaseModel],
    ) -> Response:
        rule = pipeline.rule(lane, wish)
        lane.batcher.check_room(1)  # before the body is waited for
        uploads = await read_uploads(request, max_images)
        charge(request.scope, len(uploads.images))
        work = pipeline.examine(
            uploads.images,
            lane,
            rule,
            strict_size=query.strict_size,
            deadline=request.scope.get(DEADLINE),
        )
        entries = await while_connected(request.receive, work)
        note_examined(request.scope, lane.model, entries)
        if uploads.several:
            written = [_refusal(e) if isinstance(e, RequestError) else write(e) for e in entries]
            return _json(_Results(results=written))
        (entry,) = entries
        if isinstance(entry, RequestError):
            raise entry
        return _json(write(entry))

    if disclose == "full":

        @routes.post(
            "/classify",
            summary="What is in the image",
            responses=problem_responses(Classification | Classifications),
            openapi_extra=body,
        )
        async def classify(request: Request, query: Annotated[ClassifyQuery, Query()]) -> Response:
            """The standard way's label, its likeliest classes, and the verdict beside them."""
            lane = pipeline.lane(query.model, query.version)
            write = partial(classification, model=lane.model, k=query.top_k)
            return await examine(request, query, Wish(query.policy, query.fpr), lane, write)

        @routes.post(
            "/detect",
            summary="Whether to distrust the image",
            responses=problem_responses(Detection | Detections),
            openapi_extra=body,
        )
        async def detect(request: Request, query: Annotated[DetectQuery, Query()]) -> Response:
            """Verdict and reason, with the score, the three ways and the label to use."""
            lane = pipeline.lane(query.model, query.version)
            write = partial(detection, model=lane.model)
            return await examine(request, query, Wish(query.policy, query.fpr), lane, write)

        hot.add(HotRoute("/classify", ClassifyQuery, classify))
        hot.add(HotRoute("/detect", DetectQuery, detect))
    else:

        async def tell(request: Request, query: Annotated[ImageQuery, Query()]) -> Response:
            """The verdict and the label to use, and nothing of how it came about."""
            lane = pipeline.lane(query.model, query.version)
            return await examine(request, query, Wish(), lane, partial(verdict, model=lane.model))

        for path in ("/classify", "/detect"):
            routes.post(
                path,
                name=path.strip("/"),
                summary="Whether to distrust the image, and which label to use",
                responses=problem_responses(Verdict | Verdicts),
                openapi_extra=body,
            )(tell)
            hot.add(HotRoute(path, ImageQuery, tell))
    return routes


class _Results(BaseModel):
    """What `Classifications` and `Detections` describe, written without checking it again."""

    results: list[SerializeAsAny[BaseModel]]


def _refusal(error: RequestError) -> Refusal:
    return Refusal(error=problem(error))


def _json(answer: BaseModel) -> Response:
    return Response(answer.model_dump_json(exclude_none=True), media_type="application/json")
