"""A lane for each model that is served: the model, its queue, and what is watched of it.

Makes lanes and closes them, tells their metrics, finds the one that a request asks for. Knows
neither uploads nor what is done with a lane's answers.
"""

from dataclasses import dataclass
from functools import partial

from service import manifest as contract
from service.batcher import MicroBatcher
from service.decision import Finding
from service.errors import RequestError, SettingsRefused
from service.inference import Pixels, infer
from service.metrics import Metrics
from service.policies import Wish, check
from service.recorder import Recorder
from service.repository import Catalogue, Model
from service.settings import Settings


@dataclass(frozen=True, slots=True)
class Lane:
    """A model with its own queue, and what is watched of it."""

    model: Model
    batcher: MicroBatcher[Pixels, Finding]
    recorder: Recorder


class Lanes:
    """The lanes of a catalogue. `start` and `close` in one event loop."""

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
        self._lanes = {(model.name, model.version): self._lane(model) for model in catalogue}

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

    async def close(self) -> None:
        """Answer what was submitted, nothing after it."""
        for lane in self._lanes.values():
            await lane.batcher.close()

    @property
    def ready(self) -> bool:
        """Whether every lane answers."""
        return all(lane.batcher.running for lane in self._lanes.values())

    def _lane(self, model: Model) -> Lane:
        label = (model.name, str(model.version))
        try:
            if model is self.catalogue.find(model.name):
                check(model.manifest.decision, self._default)
        except RequestError as error:
            raise SettingsRefused(
                f"{model.name} version {model.version} cannot follow the settings: {error}",
                "change PARALLAX_POLICY or PARALLAX_FPR, or give it thresholds: parallax calibrate",
            ) from None
        lane = Lane(
            model,
            MicroBatcher(
                partial(infer, model),
                max_batch=self._settings.max_batch,
                max_pending=self._settings.max_pending,
                max_delay_s=self._settings.max_delay_ms / 1000,
                on_batch=self._metrics.batch_size.labels(*label).observe,
            ),
            Recorder(model, self._settings, self._metrics),
        )
        session = model.session
        is_default = str(model is self.catalogue.default).lower()
        digest = model.manifest.files[contract.MODEL_FILE].sha256
        self._metrics.model_info.labels(
            *label, session.provider, session.threads, is_default, digest
        ).set(1)
        self._metrics.pending.labels(*label).set_function(lambda: lane.batcher.pending)
        return lane
