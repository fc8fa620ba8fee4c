"""What one of several workers may use."""

from service.settings import Settings
from service.worker import share


def test_a_share_of_what_is_meant_for_all() -> None:
    part = share(Settings(workers=3, max_pending=100, drift_window=1000), cpus=8)
    assert (part.threads, part.decode_threads) == (3, 3)
    assert part.max_pending == 64  # the largest request must still be admitted
    assert part.max_held_bytes == -(-(256 << 20) // 3)
    assert part.drift_window == 334
    assert part.max_batch == Settings().max_batch


def test_what_is_set_for_each_stays() -> None:
    part = share(Settings(workers=2, threads=5, decode_threads=6), cpus=8)
    assert (part.threads, part.decode_threads) == (5, 6)
    assert share(Settings(workers=16), cpus=4).threads == 1
    assert share(Settings(workers=1), cpus=4).max_pending == Settings().max_pending
