"""What is observed is what the model and the service's scores say."""

import numpy as np
import pytest
import torch

from service import scores
from service.scores import Temperature
from tests.training import examinee, tiny
from tests.training.observations import observed
from training.checkpoint import CheckpointError
from training.data import to_float
from training.observed import joined, observe


def test_is_what_the_model_says() -> None:
    model, images = tiny.model().eval(), tiny.images(5)
    image = to_float(images.pixels)
    found = observe(model, image, images.label)
    with torch.no_grad():
        standard, robust, nonrobust = model(image)
        z_robust, z_nonrobust = model.encode(image)
    for way, expected in (("standard", standard), ("robust", robust), ("nonrobust", nonrobust)):
        np.testing.assert_array_equal(getattr(found.logits, way), expected.numpy())
    np.testing.assert_array_equal(found.features.robust, z_robust.numpy())
    np.testing.assert_array_equal(found.features.nonrobust, z_nonrobust.numpy())
    assert found.label.tolist() == images.label.tolist()
    assert found.named.tolist() == standard.argmax(dim=1).tolist()


def test_parts_join_and_come_apart() -> None:
    whole = observed([0, 1, 1], [[2, 0], [3, 0], [0, 4]])
    assert whole.fooled.tolist() == [False, True, False]
    parts = [
        whole.take(np.array([True, False, False])),
        whole.take(~np.array([True, False, False])),
    ]
    again = joined(parts)
    assert len(again) == 3
    np.testing.assert_array_equal(again.logits.robust, whole.logits.robust)
    np.testing.assert_array_equal(again.features.nonrobust, whole.features.nonrobust)
    assert again.label.tolist() == [0, 1, 1]


def test_scores_are_the_services() -> None:
    one = observed([0, 0], [[2, 0], [1, 0]], nonrobust=[[2, 0], [0, 1]])
    temperature = Temperature(robust=2.0)
    p_robust = scores.softmax(one.logits.robust, 2.0)
    expected = scores.disbelief(p_robust, np.array([0, 1]))
    np.testing.assert_array_equal(one.score("disbelief", temperature, None), expected)


def test_answers_that_are_no_numbers() -> None:
    model = examinee.model()
    with pytest.raises(CheckpointError, match="not finite"):
        observe(model, torch.full((1, 1, 2, 2), torch.nan), torch.tensor([0]))
