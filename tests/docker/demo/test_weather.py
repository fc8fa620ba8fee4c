"""When the demonstration attacks."""

import pytest

from docker.demo.weather import Weather

WEATHER = Weather(calm=0.0, storm=0.5, begins_s=10, every_s=100, lasts_s=20)


@pytest.mark.parametrize(
    ("elapsed_s", "share"),
    [(0, 0.0), (9.9, 0.0), (10, 0.5), (29.9, 0.5), (30, 0.0), (109.9, 0.0), (110, 0.5), (130, 0.0)],
)
def test_storms_come_at_regular_times(elapsed_s: float, share: float) -> None:
    assert WEATHER.share(elapsed_s) == share


def test_the_board_has_seen_a_storm_within_a_minute_and_mostly_calm() -> None:
    shares = [Weather().share(second) for second in range(600)]
    assert max(shares[:60]) > 0.2
    assert sorted(shares)[300] < 0.02
