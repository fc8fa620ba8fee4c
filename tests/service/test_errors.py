"""The tree: every class complete, codes unique, the drawing in the docstring up to date."""

import re
from pathlib import Path

import pytest

from service import errors
from service.errors import (
    AddressUnusable,
    MethodNotAllowed,
    ModelRefused,
    ModelUnknown,
    Overloaded,
    ParameterRefused,
    StartupError,
    request_errors,
)


def test_every_request_error_is_complete() -> None:
    kinds = list(request_errors())
    assert len(kinds) > 20
    for kind in kinds:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.code)
        assert 400 <= kind.status < 600
        assert kind.title
        assert kind.__doc__


def test_codes_are_unique() -> None:
    codes = [kind.code for kind in request_errors()]
    assert len(set(codes)) == len(codes)


def test_exit_statuses_tell_causes_apart() -> None:
    named: list[type[StartupError]] = [
        errors.SettingsRefused,
        errors.KeysRefused,
        errors.ModelRefused,
        errors.ProviderAbsent,
        AddressUnusable,
    ]
    assert len({kind.exit_status for kind in named}) == len(named)


def test_drawing_shows_every_class() -> None:
    drawing = errors.__doc__ or ""
    for kind in [*request_errors(), *StartupError.__subclasses__()]:
        assert re.search(rf"\b{kind.__name__}\b", drawing), kind.__name__


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ParameterRefused("modle", "unknown here", ("model",)), "did you mean 'model'?"),
        (ParameterRefused("x", "unknown here", ("model",)), "parameter 'x': unknown here"),
        (ModelUnknown("a", None, ("b version 1",)), "model 'a' is not loaded; loaded: b version 1"),
        (ModelUnknown("a", 3, ("a version 1",)), "model 'a' version 3 is not loaded"),
        (ModelRefused(Path("m"), "broken"), "model folder m refused: broken"),
        (AddressUnusable("::1", 80, "in use"), "cannot listen on ::1:80 (in use)"),
    ],
)
def test_messages_name_the_value(error: errors.ParallaxError, said: str) -> None:
    assert said in str(error)


def test_headers_belong_to_the_error() -> None:
    assert Overloaded(7).headers == {"Retry-After": "7"}
    assert errors.RateLimited(7).headers == {"Retry-After": "7"}
    assert errors.Unauthorized("x").headers == {"WWW-Authenticate": 'Bearer realm="parallax"'}
    assert MethodNotAllowed("GET", "POST").headers == {"Allow": "POST"}
    assert ParameterRefused("x", "y").headers == {}
