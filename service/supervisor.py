"""Several worker processes at one address: started, watched, replaced, ended.

uvicorn's own supervisor looks twice a second, waits for each worker in turn, replaces a dead one at
once for ever and knows one socket for all; this one sleeps until something happens. The sockets are
the parent's, so that a client finds one while its worker is being replaced: it waits, and is not
refused. Knows processes and signals; neither models nor requests.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from service.errors import WorkerEnded
from service.metric_files import MetricFiles
from service.metrics import Metrics
from service.settings import Settings
from service.worker import ASK, HERE, Ready, Refused, work

PARENT = "parent"  # whose files of metrics are the supervisor's

_TURN_S = 1.0  # between two looks at what tells nothing by itself
_ASKED_EVERY_S = 5.0
_HUNG_S = 30.0  # without an answer
_SETTLED_S = 10.0  # of service, after which an end is the first one
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 5.0  # clients at the place of a missing worker wait too
_SLACK_S = 5.0  # beyond the grace period, for what comes after the last request

log = logging.getLogger(__name__)


def names(settings: Settings) -> list[str]:
    """Of all processes, as their files of metrics are called."""
    return [PARENT, *(str(number) for number in range(settings.workers))]


@dataclass(slots=True)
class _Place:
    """What stays of a worker while its processes come and go."""

    name: str
    listener: socket.socket
    process: BaseProcess | None = None
    line: Connection | None = None
    ready: Ready | None = None
    refused: Refused | None = None
    since: float = 0.0  # when it became ready
    owed: bool = False  # a SIGHUP, which would end it before it is ready
    asked: float | None = None  # without an answer until now
    heard: float = 0.0
    ends: int = 0  # one soon after the other
    due: float = 0.0  # when its next process is started

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.is_alive()


class Supervisor:
    """Run once, in the main thread."""

    def __init__(
        self,
        settings: Settings,
        listeners: Sequence[socket.socket],
        files: MetricFiles,
        metrics: Metrics,
        greet: Callable[[tuple[str, ...]], None],
    ) -> None:
        """`greet` is told what is served, once, when every worker answers."""
        self._settings = settings
        self._files = files
        self._metrics = metrics
        self._greet = greet
        self._greeted = False
        self._places = [_Place(str(number), listener) for number, listener in enumerate(listeners)]
        self._spawn = multiprocessing.get_context("spawn")
        self._ended_by: int | None = None
        self._patience = 0.0  # until when workers may take to end

    def run(self) -> int:
        """Until a signal; which one it was.

        Raises:
            WorkerEnded: a worker cannot start, and none answers.
        """
        try:
            with _signals() as arrived:
                while self._ended_by is None or any(place.alive for place in self._places):
                    for place in self._places:
                        self._look_at(place)
                    self._sleep(arrived)
                    for number in _read(arrived):
                        self._on_signal(number)
                    self._metrics.refresh()
                return self._ended_by
        finally:
            for place in self._places:
                if place.process is not None:
                    place.process.kill()
                    place.process.join()

    def _sleep(self, arrived: socket.socket) -> None:
        """Until a signal, a word from a worker, the end of one, or the time for something."""
        things: list[socket.socket | Connection | int] = [arrived]
        for place in self._places:
            if place.process is not None:
                things.append(place.process.sentinel)
            if place.line is not None:
                things.append(place.line)
        now = time.monotonic()
        due = [place.due - now for place in self._places if place.process is None]
        wait(things, max(0.0, min([_TURN_S, *due])) if self._ended_by is None else _TURN_S)

    def _look_at(self, place: _Place) -> None:
        self._hear(place)
        if place.process is not None and not place.process.is_alive():
            self._bury(place)
        now = time.monotonic()
        if self._ended_by is not None:
            if now > self._patience and place.process is not None:
                log.error("worker %s is not done after the grace period", place.name)
                place.process.kill()
        elif place.process is None:
            if now >= place.due:
                self._start(place)
        elif place.ready and place.line is not None:
            if place.asked is None and now - place.heard >= _ASKED_EVERY_S:
                place.asked = now
                with contextlib.suppress(OSError):  # its end will be seen
                    place.line.send(ASK)
            elif place.asked is not None and now - place.asked > _HUNG_S:
                log.error("worker %s says nothing any more", place.name)
                place.process.kill()

    def _start(self, place: _Place) -> None:
        place.ready = place.refused = place.asked = None
        place.owed = False
        line, theirs = multiprocessing.Pipe()
        process = self._spawn.Process(
            target=work,
            args=(self._settings, place.name, place.listener, theirs, self._files),
            name=f"parallax-worker-{place.name}",
            daemon=True,
        )
        try:
            process.start()
        except OSError as error:  # of too many processes, or too little memory
            line.close()
            self._missed(place, error.strerror or str(error))
        else:
            place.process, place.line = process, line
        theirs.close()  # so that the line ends with the process

    def _hear(self, place: _Place) -> None:
        try:
            while place.line is not None and place.line.poll():
                said = place.line.recv()
                place.heard = time.monotonic()
                if isinstance(said, Ready):
                    place.ready, place.since = said, place.heard
                    if place.owed:
                        self._hang_up(place)
                elif isinstance(said, Refused):
                    place.refused = said
                elif said == HERE:
                    place.asked = None
        except (EOFError, OSError):
            assert place.line is not None
            place.line.close()
            place.line = None
        if not self._greeted and all(other.ready for other in self._places):
            self._greeted = True
            self._greet(place.ready.models if place.ready else ())

    def _bury(self, place: _Place) -> None:
        process = place.process
        assert process is not None
        process.join()
        self._hear(place)  # its last words
        self._files.end(place.name)
        place.process = None
        code = process.exitcode or 0
        how = f"signal {-code}" if code < 0 else f"exit status {code}"
        if self._ended_by is None:
            self._missed(place, f"process {process.pid} ended, {how}")

    def _missed(self, place: _Place, how: str) -> None:
        """Another process will follow, unless there is none that answers.

        Raises:
            WorkerEnded: that is so.
        """
        served, place.ready = place.ready is not None, None
        now = time.monotonic()
        if not served and not (self._greeted and any(other.ready for other in self._places)):
            if place.refused is not None:
                said = place.refused
                raise WorkerEnded(said.message, said.hint, said.exit_status)
            raise WorkerEnded(
                f"worker {place.name} did not start ({how})",
                "the lines above may say why; with too little memory fewer workers may help",
            )
        if served and now - place.since >= _SETTLED_S:
            place.ends = 0
        delay = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** (place.ends - 1)) if place.ends else 0.0
        place.ends += 1
        place.due = now + delay
        self._metrics.restarts.inc()
        reason = place.refused.message if place.refused else how
        log.error("worker %s: %s; another one in %.1f s", place.name, reason, delay)

    def _hang_up(self, place: _Place) -> None:
        """SIGHUP, which it would not survive before it is ready; then it is owed."""
        place.owed = place.ready is None and place.process is not None
        if place.ready is not None and place.process is not None and place.process.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(place.process.pid, signal.SIGHUP)

    def _on_signal(self, number: int) -> None:
        processes = [place.process for place in self._places if place.process is not None]
        if number == signal.SIGHUP:
            for place in self._places:
                self._hang_up(place)
        elif self._ended_by is None:
            self._ended_by = number
            settings = self._settings
            self._patience = time.monotonic() + settings.drain_s + settings.grace_s + _SLACK_S
            for process in processes:
                process.terminate()
            for place in self._places:
                place.listener.close()  # each worker still has its own
        else:
            for process in processes:
                process.kill()


@contextmanager
def _signals() -> Iterator[socket.socket]:
    """A socket from which the numbers of the signals that come can be read."""
    ours, theirs = socket.socketpair()
    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        before = {number: signal.signal(number, lambda *_: None) for number in handled}
        woken = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        try:
            yield ours
        finally:
            signal.set_wakeup_fd(woken)
            for number, handler in before.items():
                signal.signal(number, handler)


def _read(arrived: socket.socket) -> bytes:
    try:
        return arrived.recv(4096)
    except BlockingIOError:
        return b""
