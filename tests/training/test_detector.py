"""The head: learns what can be learned, is the same in torch and numpy, and can be attacked."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from service import scores
from service.scores import Features, Head, Temperature
from tests.training.observations import observed, subject
from training import arrays, detector
from training.data import to_float
from training.detector import Fit, Network, Unnoticed
from training.observed import Observed, observe
from training.threat import ThreatModel

QUICK = Fit(hidden=4, epochs=30, batch_size=16)


def clouds(centre: float, count: int = 40, seed: int = 0) -> Observed:
    logits = np.random.default_rng(seed).normal(centre, 0.5, (count, 2))
    return observed([0] * count, logits.tolist())


@pytest.fixture(scope="module")
def network() -> Network:
    return QUICK([clouds(-1)], [clouds(1), clouds(1.5, 10)])


def test_tells_apart_what_differs(network: Network) -> None:
    head = network.head()
    natural = clouds(-1, seed=5).score("head", Temperature(), head)
    attacked = clouds(1, seed=6).score("head", Temperature(), head)
    assert (natural < 0.5).mean() > 0.9
    assert (attacked > 0.5).mean() > 0.9


def test_numpy_says_what_torch_says(network: Network) -> None:
    one = clouds(0)
    served = scores.detected(one.features, one.logits, network.head())
    trained = network(torch.from_numpy(detector.inputs(one))).sigmoid().numpy()
    np.testing.assert_allclose(served, trained, atol=1e-6)


def test_the_same_seed_the_same_head(network: Network) -> None:
    again = QUICK([clouds(-1)], [clouds(1), clouds(1.5, 10)]).head()
    np.testing.assert_array_equal(again.hidden_weight, network.head().hidden_weight)
    assert again.output_bias == network.head().output_bias


def test_scores_of_what_is_far_apart_do_not_tie() -> None:
    """Trained for long on clouds that are easily told apart, on images far beyond them."""
    long = replace(QUICK, hidden=16, epochs=300, weight_decay=0.0, lr=0.03)
    network = long([clouds(-3)], [clouds(3)])
    shown = torch.from_numpy(np.concatenate([detector.inputs(clouds(at)) for at in (-3, 3)]))
    assert network(shown).abs().max() == pytest.approx(16.0)
    scores = clouds(4, seed=7).score("head", Temperature(), network.head())
    assert scores.max() < 1.0
    assert len(np.unique(scores)) == len(scores)


def test_a_small_group_weighs_as_much_as_a_large_one() -> None:
    """Ten attacked images at -1 against forty natural ones there: without weights they would lose.

    Both sides weigh the same, so that the head is undecided.
    """
    head = QUICK([clouds(-1, 40)], [clouds(-1, 10, seed=1)]).head()
    found = clouds(-1, 200, seed=2).score("head", Temperature(), head)
    assert 0.35 < np.median(found) < 0.65


def test_an_input_that_wakes_does_not_decide_alone() -> None:
    """A unit that is 0 in training and small on one natural image."""

    def dead(one: Observed, value: float) -> Observed:
        asleep = np.full((len(one), 1), value, dtype=np.float32)
        return replace(one, features=Features(one.features.robust, asleep))

    head = QUICK([dead(clouds(-1), 0.0)], [dead(clouds(1), 0.0)]).head()
    natural = clouds(-1, seed=5)
    asleep, awake = (
        dead(natural, value).score("head", Temperature(), head) for value in (0.0, 0.02)
    )
    assert np.abs(awake - asleep).max() < 0.2


def test_an_input_that_never_varies_is_harmless() -> None:
    flat = observed([0] * 8, [[1.0, 2.0]] * 8)
    head = QUICK([flat], [flat]).head()
    assert (head.scale > 0).all()
    assert flat.score("head", Temperature(), head) == pytest.approx(np.full(8, 0.5), abs=0.2)


def test_saved_under_the_services_names(network: Network, tmp_path: Path) -> None:
    path = tmp_path / "detector.npz"
    digest = detector.save(path, network.head())
    assert digest == detector.save(tmp_path / "again.npz", network.head())
    found = arrays.read(path)
    again = Head(**found)  # type: ignore[arg-type]  # an array without a dimension is the bias
    one = clouds(0)
    np.testing.assert_array_equal(
        scores.detected(one.features, one.logits, again),
        scores.detected(one.features, one.logits, network.head()),
    )


def test_attack_on_the_head_gets_images_past_it() -> None:
    """Within 0.1 the fragile pixel turns; the head has seen disagreement alone."""
    about = subject("train", 40)
    model, image = about.model, to_float(about.images.pixels)
    threat = ThreatModel(norm="linf", eps=0.1)
    torch.manual_seed(0)
    turned = image - 0.1 * (2 * about.images.label - 1).view(-1, 1, 1, 1)
    network = QUICK(
        [observe(model, image, about.images.label)],
        [observe(model, turned, about.images.label)],
    )
    attack = Unnoticed(network=network, threat=threat, steps=10)
    attacked = attack(model, image, about.images.label)
    assert (attacked - image).abs().max() <= 0.1 + 1e-6
    found = observe(model, attacked, about.images.label)
    before = observe(model, turned, about.images.label)
    fooled = found.fooled & before.fooled
    assert fooled.sum() > 5
    score = [
        one.take(fooled).score("head", Temperature(), network.head()).mean()
        for one in (found, before)
    ]
    assert score[0] < score[1]
