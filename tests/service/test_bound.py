"""Arrays that stay where they are, here in ordinary memory: padding, pieces, threads.

Not run on a GPU: what is tested is all but the device itself.
"""

import threading

import numpy as np
import onnxruntime as ort
import pytest

from service.bound import Bound, padded_sizes
from service.manifest import INPUT, LOGITS, OUTPUTS
from tests.service.toy import toy_answers, toy_network

IMAGES = np.random.default_rng(3).random((4, 1, 4, 4), np.float32)


@pytest.fixture
def bound() -> Bound:
    session = ort.InferenceSession(
        toy_network().SerializeToString(), providers=["CPUExecutionProvider"]
    )
    like = {name: (4, 3 if name in LOGITS else 2) for name in OUTPUTS}
    return Bound(session, "cpu", INPUT, (4, 1, 4, 4), like)


@pytest.mark.parametrize(
    ("largest", "sizes"),
    [
        (1, (1,)),
        (2, (1, 2)),
        (3, (1, 2, 3)),
        (4, (1, 2, 4)),
        (32, (1, 2, 4, 8, 16, 32)),
        (33, (1, 2, 4, 8, 16, 32, 33)),
    ],
)
def test_sizes_are_powers_of_two_and_the_largest(largest: int, sizes: tuple[int, ...]) -> None:
    assert padded_sizes(largest) == sizes


@pytest.mark.parametrize("count", [1, 3, 4])
def test_fewer_images_are_filled_up(bound: Bound, count: int) -> None:
    bound.run(IMAGES[::-1], OUTPUTS)  # what is left of another batch must not be seen
    answers = bound.run(IMAGES[:count], LOGITS)
    assert tuple(answers) == LOGITS
    for name, values in answers.items():
        assert values.shape == (count, 3)
        assert values == pytest.approx(toy_answers(IMAGES[:count])[name], abs=1e-5)


def test_answers_are_the_caller_s_own(bound: Bound) -> None:
    first = bound.run(IMAGES, LOGITS)
    kept = {name: values.copy() for name, values in first.items()}
    bound.run(1 - IMAGES, LOGITS)
    for name, values in first.items():
        assert (values == kept[name]).all()


def test_threads_do_not_see_each_other_s_images(bound: Bound) -> None:
    wrong: list[int] = []

    def ask(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(50):
            images = random.random((random.integers(1, 5), 1, 4, 4), np.float32)
            answers = bound.run(images, LOGITS)
            wanted = toy_answers(images)
            if not all(np.allclose(answers[name], wanted[name], atol=1e-5) for name in LOGITS):
                wrong.append(seed)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
