"""From settings to a service that runs: sockets, logs, one process or several, and a greeting.

What can be refused is, before a model is loaded. Knows how the parts are put together; nothing of
flags.
"""

import socket
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial

from prometheus_client import CollectorRegistry

from service import supervisor
from service.app import create_app
from service.errors import SettingsRefused
from service.exporter import exported
from service.listeners import listen
from service.log_sink import LogSink
from service.logs import STDERR, hush_decoders, logging_to, style_of
from service.metric_files import metric_files
from service.metrics import Metrics
from service.reload import held_hangups
from service.server import Server
from service.settings import Settings
from service.supervisor import Supervisor
from service.tables import Address, greeting, served
from service.tls import tls_options


def run(settings: Settings) -> int | None:
    """Answer until a signal comes; which one, if it did not end this process by itself.

    Raises:
        StartupError: the service cannot start.
    """
    if settings.workers > 1 and sys.platform == "win32":
        raise SettingsRefused("setting workers: Windows has one only", "leave it out")
    tls_options(settings)
    hush_decoders()
    style = style_of(settings.log_format, STDERR)
    with (
        held_hangups(),
        logging_to(STDERR, level=settings.log_level, style=style) as sink,
        listen(settings.host, settings.port, settings.workers) as listeners,
    ):
        if settings.workers > 1:
            return _run_together(settings, listeners, sink)
        _run_alone(settings, listeners[0], sink)
        return None


def _run_alone(settings: Settings, listener: socket.socket, sink: LogSink) -> None:
    metrics = Metrics(CollectorRegistry())
    with _exported(settings, metrics) as address:
        app = create_app(settings, sink, metrics)
        _greet(settings, listener.getsockname(), address, served(app.state.pipeline.catalogue))
        Server(app, settings).run(sockets=[listener])


def _run_together(settings: Settings, listeners: Sequence[socket.socket], sink: LogSink) -> int:
    with metric_files(supervisor.names(settings)) as files, files.adopted(supervisor.PARENT):
        metrics = Metrics(CollectorRegistry(), files)
        sink.report_drops(metrics.log_dropped.inc)
        with _exported(settings, metrics) as address:
            greet = partial(_greet, settings, listeners[0].getsockname(), address)
            return Supervisor(settings, listeners, files, metrics, greet).run()


def _exported(settings: Settings, metrics: Metrics) -> AbstractContextManager[Address | None]:
    if settings.metrics_port is None:
        return nullcontext()
    host = settings.metrics_host or settings.host
    return exported(host, settings.metrics_port, metrics.exposition)


def _greet(
    settings: Settings, address: Address, metrics: Address | None, models: Sequence[str]
) -> None:
    lines = greeting(
        address, metrics, models, tls=settings.tls_cert is not None, workers=settings.workers
    )
    with suppress(OSError):  # nobody may be reading; that is no reason not to serve
        print("\n".join(lines), flush=True)
