"""A share K/N of work that comes in units: what one of several processes does. Pure.

Knows neither what a unit is nor where its result goes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from training.config import ConfigError

Unit = TypeVar("Unit")


@dataclass(frozen=True, kw_only=True)
class Shard:
    """The `number`-th of `count` shares, counted from 1."""

    number: int = 1
    count: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def of(self, units: Sequence[Unit]) -> Sequence[Unit]:
        """Every `count`-th unit, so that all shares get cheap and costly ones alike."""
        return units[self.number - 1 :: self.count]

    def all(self) -> list["Shard"]:
        """All shares that the work is cut into, this one among them."""
        return [Shard(number=number, count=self.count) for number in range(1, self.count + 1)]


WHOLE = Shard()


def parse(text: str) -> Shard:
    """Read `K/N`, e.g. `2/3`.

    Raises:
        ConfigError: another form, or K is not one of 1 to N.
    """
    number, _, count = text.partition("/")
    if all(part.isascii() and part.isdigit() for part in (number, count)):
        shard = Shard(number=int(number), count=int(count))
        if 1 <= shard.number <= shard.count:
            return shard
    raise ConfigError(f"{text!r} is not a share; write K/N with K from 1 to N, as in 2/3")
