"""Models that change while the service runs: when to look again, and what comes of it.

A look loads the directory in a thread, while the old models answer, and switches to what it found:
verified, golden-checked and warm. There is one look at a time; who asks during one gets another
after it. What is refused is logged and counted, and what it stands in for goes on. Knows the
directory and the lanes; nothing of requests.
"""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from service.active import ACTIVE_FILE
from service.assembly import reload_catalogue
from service.catalogue import Catalogue
from service.errors import ModelRefused
from service.lanes import Lanes
from service.manifest import version_number
from service.metrics import Metrics
from service.repository import loader_of
from service.settings import Settings

Fingerprint = frozenset[tuple[str, int, int, int]]

log = logging.getLogger(__name__)


class Reloader:
    """`run` looks whenever it is asked to, and whenever the directory changed, if it is watched."""

    def __init__(self, lanes: Lanes, settings: Settings, metrics: Metrics) -> None:
        self._lanes = lanes
        self._settings = settings
        self._metrics = metrics
        self._asked = asyncio.Event()
        self._seen: Fingerprint = frozenset()  # nothing: what changed during the start counts

    def ask(self) -> None:
        """Have another look, soon; inside the event loop."""
        self._asked.set()

    async def run(self) -> None:
        """For ever."""
        watched_s = self._settings.reload_s or None
        while True:
            try:
                async with asyncio.timeout(watched_s):
                    await self._asked.wait()
            except TimeoutError:
                if await asyncio.to_thread(fingerprint, self._settings.models) == self._seen:
                    continue
            self._asked.clear()
            await self.look()

    async def look(self) -> str:
        """Load, switch, and tell: `switched`, `unchanged` or `refused`."""
        old = self._lanes.catalogue
        try:
            new = await asyncio.to_thread(self._load, old)
        except ModelRefused as error:
            log.error("models are as before: %s", error)
            outcome = "refused"
        except Exception:
            log.exception("models are as before: the reload failed")
            outcome = "refused"
        else:
            outcome = self._switch(old, new)
        self._metrics.reloads.labels(outcome).inc()
        return outcome

    def _load(self, old: Catalogue) -> Catalogue:
        if self._settings.reload_s:
            self._seen = fingerprint(self._settings.models)  # before: what changes meanwhile counts
        return reload_catalogue(
            self._settings.models,
            loader_of(self._settings, max_batch=self._settings.max_batch),
            old,
            default_model=self._settings.default_model,
            fits=self._lanes.check_fits,
        )

    def _switch(self, old: Catalogue, new: Catalogue) -> str:
        before, after = (
            {f"{model.name}/{model.version}": model for model in catalogue}
            for catalogue in (old, new)
        )
        changed = [name for name in after if before.get(name) is not after[name]]
        gone = [name for name in before if name not in after]
        answers = [
            f"{model.name}/{model.version}"
            for model in new
            if new.is_active(model) and old.active(model.name) != model.version
        ]
        self._lanes.switch(new)
        for text, names in (("loaded", changed), ("gone", gone), ("now active", answers)):
            if names:
                log.info("models %s: %s", text, ", ".join(names))
        for left_out in new.left_out:
            log.error("model refused: %s", left_out)
        if new.left_out:
            return "refused"
        moved = changed or gone or answers
        return "switched" if moved else "unchanged"


def fingerprint(directory: Path) -> Fingerprint:
    """What tells whether model folders changed, without opening a file; empty where unreadable."""
    found: set[tuple[str, int, int, int]] = set()
    try:
        for name in directory.iterdir():
            places = [name / ACTIVE_FILE]
            if name.is_dir():
                versions = (path for path in name.iterdir() if version_number(path.name))
                places += (file for version in versions for file in version.iterdir())
            for path in places:
                if path.exists():
                    status = os.stat(path)
                    found.add((str(path), status.st_ino, status.st_size, status.st_mtime_ns))
    except OSError as error:  # it may change under our eyes
        log.info("the model directory cannot be watched now: %s", error)
        return frozenset()
    return frozenset(found)


class _Held:
    """A handler that remembers."""

    came = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.came = True


@contextmanager
def held_hangups() -> Iterator[None]:
    """Keep SIGHUP waiting until `hangups` heeds it: it would end a process that starts or stops."""
    if not _can_hang_up():
        yield
        return
    before = signal.signal(signal.SIGHUP, _Held())
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


@contextmanager
def hangups(ask: Callable[[], None]) -> Iterator[None]:
    """Call `ask` in the running event loop on SIGHUP, and at once if one was held; where it can."""
    if not _can_hang_up():
        yield
        return
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGHUP)
    loop.add_signal_handler(signal.SIGHUP, ask)
    if isinstance(before, _Held) and before.came:
        ask()
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        signal.signal(signal.SIGHUP, before)


def _can_hang_up() -> bool:
    """Windows has no such signal, and other threads than the main one cannot handle any."""
    return hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread()
