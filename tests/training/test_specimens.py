"""Images of a split, corrupted and attacked: nothing depends on batches or on who else is drawn."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tests.training.observations import subject
from training.observed import Observed
from training.specimens import Specimens, sample
from training.threat import ThreatModel
from training.three_way import ThreeWayModel

THREAT = ThreatModel(norm="linf", eps=0.1)


def same(left: Observed, right: Observed) -> None:
    for way in ("standard", "robust", "nonrobust"):
        np.testing.assert_allclose(getattr(left.logits, way), getattr(right.logits, way), atol=1e-6)


def darkened(model: ThreeWayModel, image: Tensor, label: Tensor) -> Tensor:
    """An attack that would leave the ball by rounding: 0.1 is 25.5 levels."""
    return (image - 0.1).clamp(0, 1)


def test_batches_do_not_matter() -> None:
    about = subject("validation", 30)
    one, several = Specimens(threat=THREAT), Specimens(threat=THREAT, batch_size=7)
    same(one.natural(about), several.natural(about))
    same(one.corrupted(about), several.corrupted(about))
    same(one.attacked(about, darkened), several.attacked(about, darkened))


def test_a_sample_is_corrupted_as_within_the_whole() -> None:
    about = subject("validation", 30)
    few = sample(about, 8, 3)
    specimens = Specimens(threat=THREAT)
    rows = np.isin(np.arange(30), few.index)
    assert rows.sum() == len(few.images) == 8
    same(specimens.corrupted(few), specimens.corrupted(about).take(rows))
    same(specimens.natural(few), specimens.natural(about).take(rows))
    assert set(sample(about, 5, 3).index) < set(few.index)


def test_corruption_is_drawn_by_the_seed_and_changes_images() -> None:
    about = subject("validation", 30)
    zero = Specimens(threat=THREAT).corrupted(about)
    one = Specimens(threat=THREAT, seed=1).corrupted(about)
    natural = Specimens(threat=THREAT).natural(about)
    for other in (one, natural):
        moved = np.abs(zero.logits.standard - other.logits.standard).max(axis=1)
        assert (moved > 1e-3).mean() > 0.5


def test_attacked_images_travel_in_8_bits_within_eps() -> None:
    about = subject("validation", 4)
    specimens = Specimens(threat=THREAT)
    shifted = about.images.pixels.to(torch.int16) - 25  # not 25.5, nor 26
    moved = replace(about.images, pixels=shifted.clamp(0, 255).to(torch.uint8))
    same(specimens.attacked(about, darkened), specimens.natural(replace(about, images=moved)))
