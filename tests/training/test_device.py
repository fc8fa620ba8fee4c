import pytest
import torch

from training.config import ConfigError
from training.device import choose


@pytest.mark.parametrize(
    ("name", "present", "kind"),
    [("auto", False, "cpu"), ("auto", True, "cuda"), ("cpu", True, "cpu"), ("cuda", True, "cuda")],
)
def test_choose(monkeypatch: pytest.MonkeyPatch, name: str, present: bool, kind: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: present)
    assert choose(name) == torch.device(kind)


def test_cuda_is_not_replaced_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="--device cuda"):
        choose("cuda")
