import pytest
from hypothesis import given
from hypothesis import strategies as st

from training import shard
from training.config import ConfigError
from training.shard import WHOLE, Shard


def test_by_hand() -> None:
    assert shard.parse("2/3").of("abcdefg") == "be"
    assert WHOLE.of("abc") == "abc"
    assert shard.parse("1/1") == WHOLE
    assert str(shard.parse("2/3")) == "2/3"
    assert shard.parse("3/4").of("ab") == ""


@given(count=st.integers(1, 9), units=st.lists(st.integers(), unique=True))
def test_shares_are_all_of_it_without_overlap(count: int, units: list[int]) -> None:
    parts = [one.of(units) for one in Shard(number=1, count=count).all()]
    assert len(parts) == count
    assert sorted(unit for part in parts for unit in part) == sorted(units)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(
    "text", ["", "2", "0/3", "4/3", "1/0", "-1/3", "a/b", "1/2/3", "1 /2", "²/3"]
)
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a share; write K/N"):
        shard.parse(text)
