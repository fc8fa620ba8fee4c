"""One request through the service: decode > batch > run > decide > judge > record.

Knows uploads and findings; knows neither HTTP nor how an answer is written down. What each request
needs of a model is its `Lane`. Images of requests with other policies share a run: a policy judges
what was found.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from service.batcher import Served
from service.catalogue import Catalogue
from service.cpus import cpus_each
from service.decision import Finding
from service.errors import (
    DeadlineExceeded,
    ImageRefused,
    InferenceFailed,
)
from service.images import Limits, ModelInput, Upload, is_light, prepare
from service.inference import Pixels
from service.lanes import Lane, Lanes
from service.metrics import Metrics
from service.policies import Judgement, Rule, Wish, judge, resolve
from service.settings import Settings

_FEW = 4  # small images that are decoded in the event loop; more would hold it up


class Examined(NamedTuple):
    """A finding and its judgement, and what happened to the image on the way. Times in seconds.

    `queue_s` is all waiting: for a thread that decodes and for the batch.
    """

    finding: Finding
    judgement: Judgement
    resized: bool
    decode_s: float
    queue_s: float
    run_s: float


Entry = Examined | ImageRefused | InferenceFailed  # of one image; the others are not affected


class _Decoded(NamedTuple):
    input: ModelInput
    waited_s: float
    decode_s: float


class Pipeline:
    """All lanes and the threads that decode for them. `start` and `close` in one event loop."""

    def __init__(self, catalogue: Catalogue, settings: Settings, metrics: Metrics) -> None:
        """
        Raises:
            SettingsRefused: a model that answers where no version is named cannot follow the policy
                or the rate of the settings. Another version may: who asks for it is refused then.
        """
        self.lanes = Lanes(catalogue, settings, metrics)
        self._default = Wish(settings.policy, settings.fpr)
        self._alert_window_s = settings.alert_window_s
        self._metrics = metrics
        self._deadline_s = settings.deadline_ms / 1000
        self._metric_classes = settings.metric_classes
        self._limits = Limits(settings.max_image_bytes, settings.max_pixels)
        self._leaving = False
        self._decoders = ThreadPoolExecutor(
            settings.decode_threads or cpus_each(settings.workers), "decoder"
        )

    @property
    def catalogue(self) -> Catalogue:
        """The models that are served now."""
        return self.lanes.catalogue

    async def start(self) -> None:
        """Begin to answer."""
        self.lanes.start()

    async def close(self) -> None:
        """Answer what was submitted, nothing after it; an image that is being decoded is left."""
        await self.lanes.close()
        self._decoders.shutdown(wait=False, cancel_futures=True)

    @property
    def ready(self) -> bool:
        """Whether an image that is sent now will be judged, and may be."""
        return self.lanes.ready and not self._leaving

    def leave(self) -> None:
        """Not ready from now on, and as before otherwise; also called from a signal handler."""
        self._leaving = True

    def lane(self, name: str | None, version: int | None) -> Lane:
        """The lane of a loaded model, the default's where nothing is said.

        Raises:
            ModelUnknown: nothing like it is loaded.
        """
        return self.lanes.find(name, version)

    def rule(self, lane: Lane, asked: Wish) -> Rule:
        """How a request's images are judged: as it asks, else as the settings, else the model say.

        Raises:
            PolicyUnavailable, ParameterRefused: the model cannot be asked for this.
        """
        return resolve(lane.model.manifest.decision, asked, self._default)

    async def examine(
        self,
        uploads: Sequence[Upload],
        lane: Lane,
        rule: Rule,
        *,
        strict_size: bool = False,
        deadline: float | None = None,
    ) -> list[Entry]:
        """One entry an upload, in order: what was found, or why this image alone was not judged.

        `deadline` is a time of the event loop's clock; the settings' where None.

        Raises:
            Overloaded, ShuttingDown, DeadlineExceeded: for the request as a whole.
        """
        deadline, left_s = self._time_until(deadline)
        with lane.batcher.admit(len(uploads), time_left_s=left_s):
            decoded = await self._decode(uploads, lane, strict_size, deadline)
            inputs = [entry.input.pixels for entry in decoded if isinstance(entry, _Decoded)]
            served = []
            if inputs:
                chunk = inputs[0][None] if len(inputs) == 1 else np.stack(inputs)
                served = await lane.batcher.submit(chunk, deadline=deadline)
        entries = _join(decoded, served, rule)
        self._record(entries, lane)
        return entries

    async def examine_tensor(
        self, images: Pixels, lane: Lane, rule: Rule, *, deadline: float | None = None
    ) -> list[Entry]:
        """The same for (N, C, H, W) that the client decoded, of the model's size, in [0, 1].

        Raises:
            Overloaded, ShuttingDown, DeadlineExceeded: for the request as a whole.
        """
        deadline, left_s = self._time_until(deadline)
        with lane.batcher.admit(len(images), time_left_s=left_s):
            served = await lane.batcher.submit(images, deadline=deadline)
        entries: list[Entry] = [
            _examined(value, piece, rule) for piece in served for value in piece.values
        ]
        self._record(entries, lane)
        return entries

    def _time_until(self, deadline: float | None) -> tuple[float, float]:
        """A deadline by the loop's clock, the settings' where None, and the seconds until then."""
        now = asyncio.get_running_loop().time()
        deadline = now + self._deadline_s if deadline is None else deadline
        return deadline, deadline - now

    async def _decode(
        self, uploads: Sequence[Upload], lane: Lane, strict_size: bool, deadline: float
    ) -> list[_Decoded | ImageRefused]:
        """In threads, but for a few small images: those are decoded sooner than a thread wakes.

        Raises:
            DeadlineExceeded: it passed.
        """
        spec, limits = lane.model.manifest.input, self._limits
        asked = time.perf_counter()

        def decode(upload: Upload) -> _Decoded | ImageRefused:
            began = time.perf_counter()
            try:
                prepared = prepare(upload, spec, limits, strict_size=strict_size)
            except ImageRefused as error:
                return error
            return _Decoded(prepared, began - asked, time.perf_counter() - began)

        if len(uploads) <= _FEW and all(map(is_light, uploads)):
            return [decode(upload) for upload in uploads]
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.gather(
                    *(loop.run_in_executor(self._decoders, decode, upload) for upload in uploads)
                )
        except TimeoutError:
            raise DeadlineExceeded from None

    def _record(self, entries: Sequence[Entry], lane: Lane) -> None:
        for entry in entries:
            if isinstance(entry, Examined):
                lane.recorder.judged(entry.finding, entry.judgement)
                lane.recorder.timed(entry.decode_s, entry.queue_s, entry.run_s)
            else:
                lane.recorder.refused(entry)


def _join(
    decoded: Sequence[_Decoded | ImageRefused], served: Iterable[Served[Finding]], rule: Rule
) -> list[Entry]:
    """Results back into the places of the images that were decoded."""
    results = ((value, piece) for piece in served for value in piece.values)
    return [
        _examined(*next(results), rule, entry) if isinstance(entry, _Decoded) else entry
        for entry in decoded
    ]


def _examined(
    value: Finding | InferenceFailed,
    piece: Served[Finding],
    rule: Rule,
    decoded: _Decoded | None = None,
) -> Examined | InferenceFailed:
    if isinstance(value, InferenceFailed):
        return value
    return Examined(
        finding=value,
        judgement=judge(value, rule),
        resized=decoded is not None and decoded.input.resized,
        decode_s=decoded.decode_s if decoded else 0.0,
        queue_s=piece.queue_s + (decoded.waited_s if decoded else 0.0),
        run_s=piece.run_s,
    )
