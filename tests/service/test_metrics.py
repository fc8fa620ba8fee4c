"""The exposition: names, conventions, values after requests, bounded labels."""

import math
import re
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from service.app import create_app
from service.metrics import OTHER, Metrics, bounded
from tests.service.conftest import MakeSettings
from tests.service.toy import ATTACKED, NATURAL, ToyFolder, calibrated, unsure

PNG = {"Content-Type": "image/png"}


def samples(client: TestClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = client.get("/metrics").text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(client: TestClient, name: str, **labels: str) -> float | None:
    return samples(client).get((name, frozenset(labels.items())))


def test_names_follow_the_conventions() -> None:
    for family in Metrics(CollectorRegistry()).registry.collect():
        assert re.fullmatch(r"(parallax|process)_[a-z_]+", family.name)
        assert family.documentation
        if family.type == "counter":
            assert not family.name.endswith("_total")  # the library adds it


def test_two_apps_share_no_metric() -> None:
    first, second = Metrics(CollectorRegistry()), Metrics(CollectorRegistry())
    first.rejected.labels("x").inc()
    assert b'reason="x"' in first.exposition()
    assert b'reason="x"' not in second.exposition()


@pytest.mark.parametrize(("label", "name"), [(0, "a"), (1, "b"), (2, OTHER)])
def test_class_names_are_bounded(label: int, name: str) -> None:
    assert bounded(label, ("a", "b", "c"), 2) == name


def test_values_after_requests(client: TestClient) -> None:
    model = {"model": "toy", "version": "1"}
    files = [("file", data) for data in (NATURAL, ATTACKED, ATTACKED, NATURAL[:-4])]
    assert client.post("/detect", files=files).status_code == 200
    assert client.post("/classify", content=NATURAL, headers=PNG).status_code == 200
    assert client.post("/classify", content=b"text", headers=PNG).status_code == 415
    assert client.get("/nowhere/at/all").status_code == 404
    expected: list[tuple[str, dict[str, Any], float]] = [
        ("parallax_requests_total", {"endpoint": "/detect", "outcome": "ok"}, 1),
        ("parallax_requests_total", {"endpoint": "/classify", "outcome": "ok"}, 1),
        ("parallax_requests_total", {"endpoint": "/classify", "outcome": "not-an-image"}, 1),
        ("parallax_requests_total", {"endpoint": "unmatched", "outcome": "not-found"}, 1),
        ("parallax_images_total", {**model, "verdict": "accept"}, 2),
        ("parallax_images_total", {**model, "verdict": "corrected"}, 2),
        (
            "parallax_detections_total",
            {**model, "robust_label": "dog", "nonrobust_label": "owl"},
            2,
        ),
        ("parallax_rejected_total", {"reason": "image-truncated"}, 1),
        ("parallax_rejected_total", {"reason": "not-an-image"}, 1),
        ("parallax_rejected_total", {"reason": "not-found"}, 1),
        ("parallax_score_count", model, 4),
        ("parallax_score_bucket", {**model, "le": "0.001"}, 2),
        ("parallax_stage_seconds_count", {"stage": "decode"}, 4),
        ("parallax_stage_seconds_count", {"stage": "queue"}, 4),
        ("parallax_stage_seconds_count", {"stage": "inference"}, 4),
        ("parallax_batch_size_sum", model, 4),
        ("parallax_pending_images", model, 0),
        ("parallax_adversarial_rate", model, 0.5),
    ]
    found = samples(client)
    for name, labels, count in expected:
        assert found[name, frozenset(labels.items())] == count, name


def test_the_promise_and_what_is_seen_of_it(toy: ToyFolder, settings_of: MakeSettings) -> None:
    toy.changes["decision"] = calibrated()
    toy.write()
    model = {"model": "toy", "version": "1"}
    with TestClient(create_app(settings_of(drift_window=100))) as client:
        for rate, bound, promised in (
            ("0.01", "low", 0.005),
            ("0.01", "target", 0.01),
            ("0.1", "high", 0.12),
        ):
            labels = {**model, "fpr": rate, "bound": bound}
            assert value(client, "parallax_promised_alarm_rate", **labels) == promised
        for query, data in (
            ("", ATTACKED),
            ("", NATURAL),
            ("?policy=score", NATURAL),
            ("?policy=score", NATURAL),
            ("?policy=score", unsure(1, 1, 1)),
            ("?policy=score", ATTACKED),
            ("?policy=score&fpr=0.01", unsure(1, 1, 1)),
            ("?policy=strict", unsure(1, 1, 1)),
        ):
            assert client.post(f"/detect{query}", content=data, headers=PNG).status_code == 200
        for policy, rate, seen in (
            ("eq12", "none", 0.5),
            ("score", "0.1", 0.5),
            ("score", "0.01", 0.0),
            ("strict", "0.1", 1.0),
        ):
            labels = {**model, "policy": policy, "fpr": rate}
            assert value(client, "parallax_alarm_rate", **labels) == seen
        assert value(client, "parallax_images_total", **model, verdict="reject") == 2
        assert math.isnan(value(client, "parallax_score_ks_distance", **model) or 0.0)
        client.post("/detect", files=[("file", NATURAL)] * 50)
        client.post("/detect", files=[("file", ATTACKED)] * 50)
        assert value(client, "parallax_score_ks_distance", **model) == pytest.approx(0.49)
        assert (value(client, "parallax_score_stability_index", **model) or 0.0) > 1


def test_a_model_without_calibration_promises_nothing(client: TestClient) -> None:
    client.post("/detect", content=NATURAL, headers=PNG)
    families = {name for name, _ in samples(client)}
    assert "parallax_alarm_rate" in families
    assert not families & {
        "parallax_promised_alarm_rate",
        "parallax_score_ks_distance",
        "parallax_score_stability_index",
    }


def test_model_info_says_what_it_runs_on(client: TestClient, toy: ToyFolder) -> None:
    sha256 = toy.manifest().files["model.onnx"].sha256
    info = {"provider": "CPUExecutionProvider", "threads": "1", "default": "true"}
    labels = {"model": "toy", "version": "1", "sha256": sha256, **info}
    assert value(client, "parallax_model_info", **labels) == 1


def test_classes_beyond_the_limit_are_folded(toy: ToyFolder, settings_of: MakeSettings) -> None:
    with TestClient(create_app(settings_of(metric_classes=2))) as client:
        client.post("/detect", content=ATTACKED, headers=PNG)
        labels = {"model": "toy", "version": "1", "robust_label": "dog", "nonrobust_label": OTHER}
        assert value(client, "parallax_detections_total", **labels) == 1
