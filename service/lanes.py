"""A lane for each model that is served: the model, its queue, and what is watched of it.

Makes lanes and closes them, finds the one that a request asks for, switches from one catalogue to
another. Knows neither uploads nor what is done with a lane's answers.
"""

import asyncio
import logging
from dataclasses import dataclass
from functools import partial

from service import manifest as contract
from service.batcher import MicroBatcher
from service.catalogue import Catalogue, Model
from service.decision import Finding
from service.errors import RequestError, SettingsRefused
from service.inference import Pixels, infer
from service.metrics import Metrics
from service.policies import Wish, check
from service.recorder import Recorder
from service.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Lane:
    """A model with its own queue, and what is watched of it."""

    model: Model
    batcher: MicroBatcher[Pixels, Finding]
    recorder: Recorder


class Lanes:
    """The lanes of a catalogue. `start`, `switch` and `close` in one event loop."""

    def __init__(self, catalogue: Catalogue, settings: Settings, metrics: Metrics) -> None:
        """
        Raises:
            SettingsRefused: a model that answers where no version is named cannot follow the policy
                or the rate of the settings. Another version may: who asks for it is refused then.
        """
        self.catalogue = catalogue
        self._settings = settings
        self._metrics = metrics
        self._default = Wish(settings.policy, settings.fpr)
        for model in catalogue:
            if catalogue.is_active(model):
                self.check_fits(model)
        self._lanes = {(model.name, model.version): self._lane(model) for model in catalogue}
        self._retiring: dict[asyncio.Task[None], Lane] = {}
        self._tell()

    def check_fits(self, model: Model) -> None:
        """That a model can answer requests which name no version, policy or rate.

        Raises:
            SettingsRefused: it cannot follow the policy or the rate of the settings.
        """
        try:
            check(model.manifest.decision, self._default)
        except RequestError as error:
            raise SettingsRefused(
                f"{model.name} version {model.version} cannot follow the settings: {error}",
                "change PARALLAX_POLICY or PARALLAX_FPR, or give it thresholds: parallax calibrate",
            ) from None

    def find(self, name: str | None, version: int | None) -> Lane:
        """The lane of a loaded model, the default's where nothing is said.

        Raises:
            ModelUnknown: nothing like it is loaded.
        """
        model = self.catalogue.find(name, version)
        return self._lanes[model.name, model.version]

    def start(self) -> None:
        """Begin to answer."""
        for lane in self._lanes.values():
            lane.batcher.start()

    def switch(self, catalogue: Catalogue) -> None:
        """Serve another catalogue from now on; a model that is in both keeps its lane.

        A request that has its lane finishes there: a lane that left is closed when none can be left
        that found it, since the body and the answer have a deadline each.
        """
        before, self._lanes = self._lanes, {}
        for model in catalogue:
            lane = before.get((model.name, model.version))
            if lane is None or lane.model is not model:
                lane = self._lane(model)
                lane.batcher.start()
            self._lanes[model.name, model.version] = lane
        self.catalogue = catalogue
        self._tell()
        longest_s = 2 * self._settings.deadline_ms / 1000
        for lane in before.values():
            if lane not in self._lanes.values():
                task = asyncio.get_running_loop().create_task(self._retire(lane, longest_s))
                self._retiring[task] = lane
                task.add_done_callback(self._retiring.pop)

    async def close(self) -> None:
        """Answer what was submitted, nothing after it."""
        leaving = dict(self._retiring)
        for task in leaving:
            task.cancel()
        for lane in (*self._lanes.values(), *leaving.values()):
            await lane.batcher.close()

    @property
    def ready(self) -> bool:
        """Whether every lane answers."""
        return all(lane.batcher.running for lane in self._lanes.values())

    async def _retire(self, lane: Lane, longest_s: float) -> None:
        await asyncio.sleep(longest_s)
        await lane.batcher.close()
        model = lane.model
        if (model.name, model.version) not in self._lanes:
            self._metrics.forget(model.name, model.version)
        log.info("%s version %d has left", model.name, model.version)

    def _lane(self, model: Model) -> Lane:
        label = (model.name, str(model.version))
        lane = Lane(
            model,
            MicroBatcher(
                partial(infer, model),
                max_batch=self._settings.max_batch,
                max_pending=self._settings.max_pending,
                max_delay_s=self._settings.max_delay_ms / 1000,
                runs=self._settings.runs or model.session.runs,
                on_batch=self._metrics.batch_size.labels(*label).observe,
            ),
            Recorder(model, self._settings, self._metrics),
        )
        self._metrics.pending.labels(*label).set_function(lambda: lane.batcher.pending)
        return lane

    def _tell(self) -> None:
        """Which models there are now, and what they run on."""
        self._metrics.model_info.clear()
        for model in self.catalogue:
            session = model.session
            is_default = str(model is self.catalogue.default).lower()
            digest = model.manifest.files[contract.MODEL_FILE].sha256
            self._metrics.model_info.labels(
                model.name, model.version, session.provider, session.threads, is_default, digest
            ).set(1)
