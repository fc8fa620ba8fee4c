"""`/v2` but inference: what clients of the protocol ask before they send an image."""

from typing import Annotated

from fastapi import APIRouter, Path, Request

from service import __version__
from service.body import read_body
from service.catalogue import Model
from service.errors import (
    BodyMalformed,
    BodyTooLarge,
    ModelUnknown,
    ParameterRefused,
    ShuttingDown,
)
from service.openapi_protocol import errors, index_body
from service.pipeline import Pipeline
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
from service.protocol.request import Terms
from service.settings import Settings

MODEL = "/v2/models/{name}"
MODEL_VERSION = "/v2/models/{name}/versions/{version}"

Name = Annotated[str, Path(description="model name")]
Version = Annotated[str, Path(description="model version, a number")]

_DIGITS = 9  # of a version


def router(pipeline: Pipeline, settings: Settings) -> APIRouter:
    """All of it, over one pipeline."""
    routes = APIRouter(tags=["open inference protocol"])
    unknown = errors(ModelUnknown, ParameterRefused)
    not_ready = errors(ModelUnknown, ParameterRefused, ShuttingDown)

    @routes.get("/v2", summary="Who answers")
    async def server() -> ServerMetadata:
        return ServerMetadata(version=__version__)

    @routes.get("/v2/health/live", summary="The process answers")
    async def live() -> ServerLive:
        return ServerLive()

    @routes.get("/v2/health/ready", summary="Images can be sent", responses=errors(ShuttingDown))
    async def ready() -> ServerReady:
        if not pipeline.ready:
            raise ShuttingDown
        return ServerReady()

    @routes.post(
        "/v2/repository/index",
        summary="What is loaded",
        responses=errors(BodyMalformed, BodyTooLarge),
        openapi_extra=index_body(),
    )
    async def index(request: Request) -> list[IndexEntry]:
        only_ready = read_index_query(await read_body(request.receive)).ready
        entries = [
            IndexEntry(
                name=model.name,
                version=str(model.version),
                state="READY" if is_ready(model.name, model.version) else "UNAVAILABLE",
            )
            for model in pipeline.catalogue
        ]
        return [entry for entry in entries if entry.state == "READY" or not only_ready]

    @routes.get(MODEL, summary="What a model takes and gives", responses=unknown)
    async def model(name: Name) -> ModelMetadata:
        return metadata(name, None)

    @routes.get(MODEL_VERSION, summary="What a model takes and gives", responses=unknown)
    async def model_version(name: Name, version: Version) -> ModelMetadata:
        return metadata(name, version_of(version))

    @routes.get(f"{MODEL}/ready", summary="Images can be sent to it", responses=not_ready)
    async def model_ready(name: Name) -> ModelReady:
        return readiness(name, None)

    @routes.get(f"{MODEL_VERSION}/ready", summary="Images can be sent to it", responses=not_ready)
    async def model_version_ready(name: Name, version: Version) -> ModelReady:
        return readiness(name, version_of(version))

    def metadata(name: str, version: int | None) -> ModelMetadata:
        terms = terms_of(pipeline.lane(name, version).model, settings)
        return ModelMetadata(
            name=name,
            versions=[str(model.version) for model in pipeline.catalogue if model.name == name],
            inputs=described(terms.inputs),
            outputs=described(terms.outputs),
        )

    def readiness(name: str, version: int | None) -> ModelReady:
        if not is_ready(name, version):
            raise ShuttingDown
        return ModelReady(name=name)

    def is_ready(name: str, version: int | None) -> bool:
        return pipeline.lane(name, version).batcher.running

    return routes


def terms_of(model: Model, settings: Settings) -> Terms:
    """What a request may ask of a model."""
    manifest, full = model.manifest, settings.disclose == "full"
    outputs = interface.outputs(len(manifest.labels), scores=full)
    return Terms(interface.inputs(manifest.input), outputs, settings.max_images, policies=full)


def version_of(text: str) -> int:
    """
    Raises:
        ParameterRefused: it is no version.
    """
    if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS and int(text)):
        raise ParameterRefused("version", "not a whole number above 0")
    return int(text)
