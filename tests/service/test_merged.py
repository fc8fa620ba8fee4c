"""The metrics of several processes, as any of them shows them."""

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from service.metric_files import MetricFiles
from service.metrics import Metrics


@pytest.fixture
def files(tmp_path: Path) -> MetricFiles:
    return MetricFiles(tmp_path)


def shown(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Name and label values of what is about models, and of what the process is."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
        if sample.name.startswith(("process", "parallax_images", "parallax_model", "parallax_pend"))
    }


def serve(metrics: Metrics, version: str, *, default: str = "true") -> None:
    """As a process does that has loaded a model and judged an image."""
    metrics.show_models([("toy", version, "CPU", "1", default, "abc")])
    metrics.pending.watch(("toy", version), lambda: (2,))
    metrics.images.labels("toy", version, "accept").inc()
    metrics.refresh()


def test_names_are_those_of_one_process(files: MetricFiles) -> None:
    alone = {
        family.name: family.documentation
        for family in Metrics(CollectorRegistry()).registry.collect()
    }
    with files.adopted("0"):
        metrics = Metrics(CollectorRegistry(), files)
        text = metrics.exposition().decode()
    together = {
        family.name: family.documentation for family in text_string_to_metric_families(text)
    }
    assert together == alone


def test_what_no_process_serves_is_not_shown(files: MetricFiles) -> None:
    with files.adopted("0"):
        one = Metrics(CollectorRegistry(), files)
        serve(one, "1")
        with files.adopted("1"):
            other = Metrics(CollectorRegistry(), files)
            serve(other, "1")
            assert one.shared
            assert shown(other)["parallax_images_total", "toy", "accept", "1"] == 2
            assert shown(one)["parallax_pending_images", "toy", "1"] == 4
            other.show_models([("toy", "2", "CPU", "1", "true", "abc")])
            other.forget("toy", 1)
            serve(other, "2")
        versions = {key[2] for key in shown(one) if key[0] == "parallax_pending_images"}
        assert versions == {"1", "2"}  # one of them still has the old one
        one.forget("toy", 1)
        one.show_models([("toy", "2", "CPU", "1", "true", "abc")])
        serve(one, "2")
        assert {key for key in shown(one) if key[0].startswith("parallax")} == {
            ("parallax_pending_images", "toy", "2"),
            ("parallax_images_total", "toy", "accept", "2"),
            ("parallax_model_info", "true", "toy", "CPU", "abc", "1", "2"),
        }


def test_a_label_that_changes_is_not_shown_twice(files: MetricFiles) -> None:
    with files.adopted("0"):
        metrics = Metrics(CollectorRegistry(), files)
        serve(metrics, "1", default="true")
        serve(metrics, "1", default="false")
        infos = [key[1] for key in shown(metrics) if key[0] == "parallax_model_info"]
        assert infos == ["false"]
        serve(metrics, "1", default="true")
        infos = [key[1] for key in shown(metrics) if key[0] == "parallax_model_info"]
        assert infos == ["true"]


def test_the_time_of_dead_processes_stays_counted(files: MetricFiles) -> None:
    with files.adopted("0"):
        one = Metrics(CollectorRegistry(), files)
        spent = shown(one)["process_cpu_seconds_total",]
        assert spent > 0
    files.end("0")
    with files.adopted("0"):  # here by the same process, which counts from its own begin
        successor = Metrics(CollectorRegistry(), files)
        found = shown(successor)
        assert found["process_cpu_seconds_total",] >= 2 * spent
        assert found["process_resident_memory_bytes",] > 0
