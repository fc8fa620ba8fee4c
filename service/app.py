"""The application, wired: repository > pipeline > routes, with the edge around them.

The only place where all rooms meet. Knows nothing of addresses or processes.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from prometheus_client import CollectorRegistry
from threadpoolctl import threadpool_limits

from service import __version__, problems
from service.access import Gate
from service.assembly import load_catalogue
from service.edge import Edge
from service.hot import HotRoutes
from service.log_sink import LogSink
from service.logs import STDERR, style_of
from service.metrics import Metrics
from service.openapi import describe_keys
from service.pipeline import Pipeline
from service.rate_limit import TokenBuckets
from service.reload import Reloader, hangups
from service.repository import loader_of
from service.request_log import RequestLog
from service.routes import detect, health, inference_protocol, model_metadata
from service.settings import Settings, load_settings
from service.wire import Wire

_ABOUT = """Two encoders look at the same image: one learned the features that survive a
perturbation, one the features that do not. Where they disagree, somebody moved the image."""


def create_app(settings: Settings | None = None, sink: LogSink | None = None) -> FastAPI:
    """An app with verified, warm models and metrics of its own; settings default to the variables.

    Lines about requests go into the sink. Without one there are none: whoever embeds the app has a
    log of their own.

    Raises:
        StartupError: a setting, a key file, a model folder or the execution provider is not usable.
    """
    settings = settings or load_settings()
    metrics = Metrics(CollectorRegistry())
    gate = _gate(settings, metrics)
    catalogue = load_catalogue(
        settings.models,
        loader_of(settings, max_batch=settings.max_batch),
        default_model=settings.default_model,
    )
    pipeline = Pipeline(catalogue, settings, metrics)
    reloader = Reloader(pipeline.lanes, settings, metrics)

    def heed() -> None:
        """SIGHUP: what was read at the start is read anew."""
        if gate is not None:
            gate.reload()
        reloader.ask()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await pipeline.start()
        # numpy's own threads would spin against the runtime's over the detector head's few numbers
        with hangups(heed), threadpool_limits(1, user_api="blas"):
            reloading = asyncio.create_task(reloader.run())
            try:
                yield
            finally:
                reloading.cancel()
                await pipeline.close()
                if sink is not None:
                    sink.flush()  # the server ends with the signal that it was sent, at once

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
    app.include_router(detect.router(pipeline, settings.max_images, hot, settings.disclose))
    app.include_router(inference_protocol.router(pipeline, settings, hot))
    app.include_router(model_metadata.router(pipeline, settings))
    app.include_router(health.router(pipeline, metrics, settings.disclose))
    app.state.pipeline = pipeline
    app.state.wire = partial(  # what uvicorn is to make for each connection
        Wire,
        patience_s=settings.deadline_ms / 1000,
        idle_s=settings.keep_alive_s,
        on_refusal=problems.counter(metrics),
    )
    app.state.gate = gate
    if gate is not None:
        describe_keys(app)
    problems.install(app, metrics)
    app.add_middleware(
        Edge,
        hot=hot,
        metrics=metrics,
        max_body_bytes=settings.max_body_bytes,
        max_held_bytes=settings.max_held_bytes,
        deadline_s=settings.deadline_ms / 1000,
        on_error=problems.handler(metrics),
        gate=gate,
        request_log=_request_log(settings, metrics, sink),
    )
    return app


def _gate(settings: Settings, metrics: Metrics) -> Gate | None:
    """None where anybody may ask."""
    if settings.api_keys is None:
        return None
    limit = None
    if settings.rate_limit is not None:
        burst = settings.rate_burst or max(settings.rate_limit, settings.max_images)
        limit = TokenBuckets(rate=settings.rate_limit, burst=burst)
    return Gate(settings.api_keys, metrics, limit)


def _request_log(settings: Settings, metrics: Metrics, sink: LogSink | None) -> RequestLog | None:
    """None where no request is logged."""
    if sink is None:
        return None
    sink.report_drops(metrics.log_dropped.inc)
    if not settings.access_log or settings.log_level in ("warning", "error"):
        return None
    return RequestLog(sink, style_of(settings.log_format, STDERR))
