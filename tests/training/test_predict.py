import numpy as np
import pytest
import torch

from tests.training import examinee
from training import predict
from training.attacks import setting
from training.checkpoint import CheckpointError
from training.config import Way

CPU = torch.device("cpu")


def test_natural_answers_do_not_depend_on_the_batch() -> None:
    model, images = examinee.model(), examinee.images()
    whole = predict.natural(model, images, predict.WAYS, 100, CPU)
    parts = predict.natural(model, images, predict.WAYS, 5, CPU)
    alone = predict.natural(model, images, ("robust",), 5, CPU)
    assert tuple(whole) == predict.WAYS
    assert tuple(alone) == ("robust",)
    for way in predict.WAYS:
        assert whole[way].shape == (12, 2)
        assert np.array_equal(whole[way], parts[way])
    assert np.array_equal(whole["robust"], alone["robust"])


def test_ways_by_hand() -> None:
    answers = predict.natural(examinee.model(), examinee.images(), predict.WAYS, 100, CPU)
    assert answers["robust"][0] == pytest.approx([0.3, 0.0], abs=1e-6)
    assert answers["nonrobust"][0] == pytest.approx([10 * (0.5 - 120 / 255), 0.0], abs=1e-6)
    assert answers["standard"][0] == pytest.approx([0.3 + 10 * (0.5 - 120 / 255), 0], abs=1e-6)


def test_attack_follows_from_seed_way_and_position_alone() -> None:
    model, images = examinee.model(), examinee.images()
    attack = setting.parse("linf:0.1:0.01:1").pgd()

    def attacked(seed: int = 3, position: int = 0, way: Way = "standard") -> torch.Tensor:
        return predict.attacked(model, way, attack, images, seed=seed, position=position)

    first = attacked()
    torch.rand(7)
    assert torch.equal(attacked(), first)
    assert not torch.equal(attacked(seed=4), first)
    assert not torch.equal(attacked(position=12), first)
    unread = (slice(None), 0, 1)  # a row that no way looks at: there the random start is all
    assert not torch.equal(attacked(way="robust")[unread], first[unread])


def test_batches_cover_all_in_order() -> None:
    found = list(predict.batches(examinee.images(), 5, CPU))
    assert [(start, len(batch)) for start, batch in found] == [(0, 5), (5, 5), (10, 2)]
    pixels = torch.cat([batch.pixels for _, batch in found])
    assert torch.equal(pixels, examinee.images().pixels)


def test_answers_that_are_no_numbers_are_refused() -> None:
    model = examinee.model()
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    with pytest.raises(CheckpointError, match="standard way answers with numbers that are not"):
        predict.natural(model, examinee.images(), predict.WAYS, 100, CPU)


def test_examined_puts_everything_back() -> None:
    model = examinee.model().train()
    before = torch.backends.cudnn.allow_tf32
    with predict.examined(model):
        assert not torch.backends.cudnn.allow_tf32
        assert not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())
    assert torch.backends.cudnn.allow_tf32 == before
    assert model.training
