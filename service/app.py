"""The application, wired: repository > pipeline > routes, with the edge around them.

The only place where all rooms meet. Knows nothing of addresses or processes.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from prometheus_client import CollectorRegistry

from service import __version__, problems
from service.edge import Edge
from service.hot import HotRoutes
from service.manifest import INPUT
from service.metrics import Metrics
from service.pipeline import Pipeline
from service.repository import load_catalogue
from service.routes import detect, health
from service.settings import Settings, load_settings
from service.wire import Wire

_ABOUT = """Two encoders look at the same image: one learned the features that survive a
perturbation, one the features that do not. Where they disagree, somebody moved the image."""


def create_app(settings: Settings | None = None) -> FastAPI:
    """An app with verified, warm models and metrics of its own; settings default to the variables.

    Raises:
        StartupError: a setting, a model folder or the execution provider is not usable.
    """
    settings = settings or load_settings()
    catalogue = load_catalogue(
        settings.models,
        provider=settings.provider,
        threads=settings.threads,
        default_model=settings.default_model,
    )
    for model in catalogue:
        model.session.warm_up(INPUT, model.manifest.input.shape, (1, settings.max_batch))
    metrics = Metrics(CollectorRegistry())
    pipeline = Pipeline(catalogue, settings, metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await pipeline.start()
        try:
            yield
        finally:
            await pipeline.close()

    app = FastAPIOffline(  # whose /docs asks no host but this one
        title="Parallax",
        version=__version__,
        description=_ABOUT,
        lifespan=lifespan,
        redoc_url=None,
        static_url="/docs/assets",
        telemetry={"tracing": False, "metrics": False, "logs": False},  # asked at every request
        redirect_slashes=False,  # a redirect would repeat whatever host the client named
    )
    hot = HotRoutes()
    app.include_router(detect.router(pipeline, settings.max_images, hot))
    app.include_router(health.router(pipeline, metrics))
    app.state.pipeline = pipeline
    app.state.wire = partial(  # what uvicorn is to make for each connection
        Wire,
        patience_s=settings.deadline_ms / 1000,
        idle_s=settings.keep_alive_s,
        on_refusal=problems.counter(metrics),
    )
    problems.install(app, metrics)
    app.add_middleware(
        Edge,
        hot=hot,
        metrics=metrics,
        max_body_bytes=settings.max_body_bytes,
        max_held_bytes=settings.max_held_bytes,
        deadline_s=settings.deadline_ms / 1000,
        on_error=problems.handler(metrics),
    )
    return app
