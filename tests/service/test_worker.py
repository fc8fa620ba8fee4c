"""What one of several workers may use."""

from pathlib import Path

from service.settings import Settings
from service.worker import share


def test_a_share_of_what_is_meant_for_all() -> None:
    part = share(Settings(workers=3, max_pending=100, drift_window=1000))
    assert part.max_pending == 64  # the largest request must still be admitted
    assert part.max_held_bytes == -(-(256 << 20) // 3)
    assert part.drift_window == 334
    assert part.max_batch == Settings().max_batch


def test_a_limit_is_for_all_workers_together(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    part = share(Settings(workers=4, api_keys=keys, rate_limit=10.0))
    assert (part.rate_limit, part.rate_burst) == (2.5, None)
    part = share(Settings(workers=4, api_keys=keys, rate_limit=10.0, rate_burst=100))
    assert part.rate_burst == 64  # the largest request must still be let in
