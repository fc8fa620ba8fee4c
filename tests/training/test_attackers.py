"""Each attacker reaches what it is after on the model on paper."""

import pytest
import torch

from tests.training import examinee
from tests.training.observations import subject
from tests.training.test_detector import QUICK
from training.attackers import HEAD, PLAIN, attackers, threat_of
from training.data import to_float
from training.observed import observe


def test_the_plain_one_comes_first_and_the_heads_where_there_is_a_head() -> None:
    config = examinee.config().attack
    without = attackers(config, 5, None)
    assert list(without) == [PLAIN, "unflagged error", "unanimous ways"]
    about = subject("train", 20)
    natural = observe(about.model, to_float(about.images.pixels), about.images.label)
    assert list(attackers(config, 5, QUICK([natural], [natural]))) == [*without, HEAD]


@pytest.mark.parametrize("name", [PLAIN, "unflagged error", "unanimous ways"])
def test_stays_in_the_models_ball(name: str) -> None:
    config = examinee.config().attack
    about = subject("validation", 10)
    image = to_float(about.images.pixels)
    torch.manual_seed(0)
    attacked = attackers(config, 5, None)[name](about.model, image, about.images.label)
    assert threat_of(config).distance(attacked - image).max() <= 0.1 + 1e-6
    assert not torch.equal(attacked, image)


def test_the_plain_one_turns_the_fragile_pixel() -> None:
    about = subject("validation", 20)
    image, label = to_float(about.images.pixels), about.images.label
    torch.manual_seed(0)
    attacked = attackers(examinee.config().attack, 5, None)[PLAIN](about.model, image, label)
    found = observe(about.model, attacked, label)
    assert found.fooled.mean() > 0.5
    assert (found.logits.robust.argmax(axis=1) == label.numpy()).all()
