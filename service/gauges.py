"""Gauges that are functions of numbers which add up over processes.

A rate over two workers is flagged by flagged, images by images, and not the mean of two rates. So a
process leaves the parts of such a gauge, and the gauge is made of their sums where it is read; one
process alone is a sum too. Knows neither what is counted nor how parts travel.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Parts = Sequence[float]
Labels = tuple[str, ...]

_PART = "part"  # label of the parts' places: 0 counts processes, the rest is theirs

log = logging.getLogger(__name__)


class SumGauge(Collector):
    """Its samples are `value(processes, sums of their parts)`, one for each set of labels."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        value: Callable[[int, Parts], float],
        *,
        registry: CollectorRegistry,
    ) -> None:
        self.name = name
        self.parts_name = f"{name}_parts"
        self._documentation = documentation
        self._labels = tuple(labels)
        self._value = value
        self._watched: dict[Labels, Callable[[], Parts]] = {}
        self._sizes: dict[Labels, int] = {}
        self._failing: set[Labels] = set()
        self._parts = Gauge(
            self.parts_name,
            documentation,
            (*labels, _PART),
            multiprocess_mode="livesum",
            registry=None,  # nobody is shown it
        )
        registry.register(self)

    def watch(self, labels: Sequence[str], parts: Callable[[], Parts]) -> None:
        """Take `parts()` for this process's numbers from now on; always as many."""
        self._watched[tuple(labels)] = parts

    def remove_by_labels(self, labels: Mapping[str, str]) -> None:
        """This process has no numbers any more that have these labels, and perhaps others."""
        places = {self._labels.index(name): value for name, value in labels.items()}
        for watched in tuple(self._watched):
            if all(watched[place] == value for place, value in places.items()):
                del self._watched[watched]
                self._leave(watched, 0, ())

    def refresh(self) -> None:
        """Leave this process's numbers of now. A function that fails leaves none, told once."""
        for labels, parts in tuple(self._watched.items()):
            try:
                self._leave(labels, 1, parts())
                self._failing.discard(labels)
            except Exception:
                self._leave(labels, 0, ())
                if labels not in self._failing:
                    self._failing.add(labels)
                    log.exception("%s of %s cannot be told", self.name, labels)

    def collect(self) -> Iterator[Metric]:
        """Of this process alone."""
        self.refresh()
        for left in self._parts.collect():
            yield self.made_of(left)

    def made_of(self, left: Metric | None) -> Metric:
        """The gauge from parts that were left, and summed where there are several processes."""
        sums: dict[Labels, dict[int, float]] = {}
        for sample in left.samples if left else ():
            labels = tuple(sample.labels[name] for name in self._labels)
            sums.setdefault(labels, {})[int(sample.labels[_PART])] = sample.value
        family = GaugeMetricFamily(self.name, self._documentation, labels=self._labels)
        for labels, parts in sums.items():
            if processes := round(parts.pop(0, 0.0)):
                value = self._value(processes, [parts[place] for place in sorted(parts)])
                family.add_metric(labels, value)
        return family

    def _leave(self, labels: Labels, processes: int, parts: Parts) -> None:
        size = self._sizes[labels] = max(len(parts), self._sizes.get(labels, 0))
        padded = (*parts, *[0.0] * (size - len(parts)))
        for place, part in enumerate(padded, 1):
            self._parts.labels(*labels, place).set(part)
        self._parts.labels(*labels, 0).set(processes)  # last: then all of them are there
