"""What callers may rely on of the exceptions."""

import pickle

import pytest

from meshcore import errors
from meshcore._core import By
from meshcore.errors import BreakerOpen, CodecError, ConfigError, Diagnostic, RateLimited


def test_a_problem_is_one_line_with_its_place_and_hint() -> None:
    whole = Diagnostic(("a", "b"), "wrong", "do right", "f.yaml", 3, 7)
    assert str(whole) == "f.yaml:3:7: a.b: wrong (do right)"
    assert str(Diagnostic((), "wrong")) == "wrong"
    assert str(Diagnostic(("a",), "wrong", file="f.yaml")) == "f.yaml: a: wrong"


def test_a_config_error_keeps_its_problems_through_pickle() -> None:
    error = ConfigError([Diagnostic(("a",), "x"), Diagnostic(("b",), "y")])
    again = pickle.loads(pickle.dumps(error))
    assert again.problems == error.problems
    assert str(again) == "a: x\nb: y"
    assert ConfigError("one\ntwo").problems == (Diagnostic((), "one"), Diagnostic((), "two"))


def test_a_refusal_says_when_to_come_back() -> None:
    assert str(RateLimited("", 1_500_000_000)) == "rate limited, retry after 1.500 s"
    assert RateLimited("", 1_500_000_000).retry_after == 1.5
    assert str(BreakerOpen("users: open")) == "users: open"


def test_a_codec_error_shows_its_message() -> None:
    assert str(CodecError("bad chunk", 7, "chunk size")) == "bad chunk"


@pytest.mark.parametrize("name", [n for n in errors.__all__ if n != "Diagnostic"])
def test_every_exception_is_of_the_family(name: str) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, errors.MeshcoreError)
    assert kind.reason == kind.reason.lower()
    assert isinstance(kind.by, By)
