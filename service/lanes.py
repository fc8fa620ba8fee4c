"""A lane for each model that is served: the model, its queue, and what is watched of it.

Makes lanes and closes them, tells their metrics, finds the one that a request asks for. Knows
neither uploads nor what is done with a lane's answers.
"""

from dataclasses import dataclass, field
from functools import partial

from service import manifest as contract
from service.alerts import RateMonitor
from service.batcher import MicroBatcher
from service.decision import Finding
from service.drift import DriftMonitor
from service.errors import RequestError, SettingsRefused
from service.inference import Pixels, infer
from service.metrics import Metrics
from service.policies import Wish, check
from service.repository import Catalogue, Model
from service.settings import Settings


@dataclass(frozen=True, slots=True)
class Lane:
    """A model with its own queue, and what is watched of it."""

    model: Model
    batcher: MicroBatcher[Pixels, Finding]
    monitor: RateMonitor  # of Eq. 12
    drift: DriftMonitor | None  # where the model was calibrated
    alarms: dict[tuple[str, str], RateMonitor] = field(default_factory=dict)  # by policy, rate


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
        spec = model.manifest.decision
        try:
            if model is self.catalogue.find(model.name):
                check(spec, self._default)
        except RequestError as error:
            raise SettingsRefused(
                f"{model.name} version {model.version} cannot follow the settings: {error}",
                "change PARALLAX_POLICY or PARALLAX_FPR, or give it thresholds: parallax calibrate",
            ) from None
        drift = None
        if spec.calibration is not None:
            reference = spec.calibration.histogram
            drift = DriftMonitor(reference.edges, reference.counts, self._settings.drift_window)
            self._metrics.score_stability.labels(*label).set_function(drift.stability_index)
            self._metrics.score_distance.labels(*label).set_function(drift.ks_distance)
        for rate, threshold in spec.thresholds.items():
            low, high = threshold.interval
            for bound, value in (("low", low), ("target", float(rate)), ("high", high)):
                self._metrics.promised_rate.labels(*label, rate, bound).set(value)
        lane = Lane(
            model,
            MicroBatcher(
                partial(infer, model),
                max_batch=self._settings.max_batch,
                max_pending=self._settings.max_pending,
                max_delay_s=self._settings.max_delay_ms / 1000,
                on_batch=self._metrics.batch_size.labels(*label).observe,
            ),
            RateMonitor(self._settings.alert_window_s),
            drift,
        )
        session = model.session
        is_default = str(model is self.catalogue.default).lower()
        digest = model.manifest.files[contract.MODEL_FILE].sha256
        self._metrics.model_info.labels(
            *label, session.provider, session.threads, is_default, digest
        ).set(1)
        self._metrics.pending.labels(*label).set_function(lambda: lane.batcher.pending)
        self._metrics.adversarial_rate.labels(*label).set_function(lane.monitor.rate)
        return lane
