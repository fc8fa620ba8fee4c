"""What operators and machines ask: alive, ready, which models, how much, what a problem means."""

import inspect

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from service.answers import listed_models, loaded_models, model_name
from service.errors import ParameterRefused, RouteUnknown, ShuttingDown, request_errors
from service.metrics import Metrics
from service.openapi import problems
from service.pipeline import Pipeline
from service.schemas import ListedModels, Live, LoadedModels, ProblemKind, Ready
from service.settings import Disclosure


def router(pipeline: Pipeline, metrics: Metrics, disclose: Disclosure = "full") -> APIRouter:
    """All of it, over one pipeline and its metrics."""
    routes = APIRouter(tags=["operation"])
    kinds = {error.code: error for error in request_errors()}

    @routes.head("/health/live", include_in_schema=False)  # what some balancers ask with
    @routes.get("/health/live", summary="The process answers")
    async def live() -> Live:
        return Live()

    @routes.head("/health/ready", include_in_schema=False)
    @routes.get("/health/ready", summary="Images can be sent", responses=problems(ShuttingDown))
    async def ready() -> Ready:
        if not pipeline.ready:
            raise ShuttingDown
        return Ready(models=[model_name(model) for model in pipeline.catalogue])

    if disclose == "full":

        @routes.get("/models", summary="What is loaded, on what it runs, and how well it does")
        async def models() -> LoadedModels:
            return loaded_models(pipeline.catalogue)

    else:

        @routes.get("/models", summary="What is loaded, and on what it runs")
        async def listed() -> ListedModels:
            return listed_models(pipeline.catalogue)

    @routes.get("/metrics", summary="Prometheus text format", response_class=Response)
    async def exposition() -> Response:
        text = metrics.exposition(with_scores=disclose == "full")
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    @routes.get(
        "/problems/{code}",
        summary="What a problem's code means",
        responses=problems(RouteUnknown, ParameterRefused),
    )
    async def meaning(code: str) -> ProblemKind:
        if code not in kinds:
            raise RouteUnknown
        kind = kinds[code]
        about = inspect.getdoc(kind) or ""
        return ProblemKind(code=code, status=kind.status, title=kind.title, meaning=about)

    return routes
