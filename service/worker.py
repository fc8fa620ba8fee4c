"""One of several processes that serve: its share of the settings, and what it says to its parent.

    worker > parent    Ready or Refused, once; HERE for each ASK
    parent > worker    ASK, whether its event loop still turns; the line's end where it is gone

Knows the app and the line; neither its siblings nor when it is replaced.
"""

import asyncio
import math
import shutil
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

from prometheus_client import CollectorRegistry

from service.app import create_app
from service.errors import StartupError
from service.logs import STDERR, hush_decoders, logging_to, style_of
from service.metric_files import MetricFiles
from service.metrics import Metrics
from service.reload import held_hangups
from service.server import Server
from service.settings import Settings
from service.tables import served

ASK = b"?"
HERE = b"!"


@dataclass(frozen=True, slots=True)
class Ready:
    """Connections are accepted; a line for people about each model."""

    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """A StartupError on its way to the parent."""

    message: str
    hint: str
    exit_status: int


def share(settings: Settings) -> Settings:
    """What one of `settings.workers` may use of what is meant for the service as a whole."""

    def part(whole: int, least: int = 1) -> int:
        return max(least, math.ceil(whole / settings.workers))

    return settings.model_copy(
        update={
            "max_pending": part(settings.max_pending, settings.max_images),
            "max_held_bytes": part(settings.max_held_bytes, settings.max_body_bytes),
            "drift_window": part(settings.drift_window),
            "rate_limit": settings.rate_limit and settings.rate_limit / settings.workers,
            "rate_burst": settings.rate_burst and part(settings.rate_burst, settings.max_images),
        }
    )


def work(
    settings: Settings, name: str, listener: socket.socket, line: Connection, files: MetricFiles
) -> None:
    """The whole life of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all: the parent decides
    hush_decoders()
    style = style_of(settings.log_format, STDERR)
    with (
        held_hangups(),
        logging_to(STDERR, level=settings.log_level, style=style) as sink,
        files.adopted(name),
    ):
        metrics = Metrics(CollectorRegistry(), files)
        try:
            app = create_app(share(settings), sink, metrics)
        except StartupError as error:
            with suppress(OSError):
                line.send(Refused(str(error), error.hint, error.exit_status))
            sys.exit(error.exit_status)
        orphaned = False

        def hear() -> None:
            nonlocal orphaned
            try:
                line.recv()
                line.send(HERE)
            except (EOFError, OSError):
                orphaned = True
                asyncio.get_running_loop().remove_reader(line.fileno())
                server.stop()

        def started() -> None:
            asyncio.get_running_loop().add_reader(line.fileno(), hear)
            with suppress(OSError):  # the parent is gone, as `hear` will hear
                line.send(Ready(served(app.state.pipeline.catalogue)))

        server = Server(app, settings, alone=False, started=started)
        server.run(sockets=[listener])
    if orphaned:
        shutil.rmtree(files.folder, ignore_errors=True)  # nobody else will
