"""What is wrong with the hooks of a layer is told when it is loaded, not by requests."""

from __future__ import annotations

import functools
import re
import types
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import meshcore
from meshcore import Answer, Layer, LayerError, Outcome, Request, Response
from meshcore.process.layer_hooks import hook_problems
from meshcore.process.layers import make_layer
from meshcore.testing import Mesh

MESH = """
version: 1
listeners:
  edge: {bind: "127.0.0.1:0", layers: [python: nowhere:Named]}
routes: [{name: all, respond: {status: 200}}]
"""


class Right(Layer):
    def on_request(self, request: Request, *more: object) -> None: ...

    @staticmethod
    def on_response(request: Request, response: Response) -> None: ...

    @classmethod
    def on_request_body(cls, request: Request, piece: bytes, end: bool = False) -> None: ...

    def on_response_body(self, *given: Any) -> None: ...

    on_request_trailers = functools.partialmethod(lambda _self, _more, _request, _fields: None, 1)

    def on_end(self, request: Request, outcome: Outcome) -> None: ...

    def once(self) -> None: ...

    def on_tenant(self) -> None: ...

    online = True
    on_respons = None


class Misnamed(Layer):
    def on_respons(self, request: Request, response: Response) -> None: ...


class Inherits(Misnamed):
    async def onrequest(self, request: Request) -> None: ...


class TakesNothing(Layer):
    def on_request(self) -> None: ...  # type: ignore[override]


class TakesMore(Layer):
    def on_response_body(self, request: Request, response: Response, piece: bytes) -> None: ...  # type: ignore[override]

    async def on_end(self, request: Request, outcome: Outcome) -> None: ...  # type: ignore[override]


class Yields(Layer):
    def on_request(self, request: Request) -> Iterator[None]:  # type: ignore[override]
        yield

    async def on_response_body(  # type: ignore[override]
        self, request: Request, response: Response, piece: bytes, end: bool
    ) -> AsyncIterator[bytes]:
        yield piece

    @staticmethod
    def on_end(request: Request, outcome: Outcome) -> Iterator[None]:  # type: ignore[override]
        yield


class AwaitsAsOfOld(Layer):
    @types.coroutine
    def on_request(self, request: Request) -> Iterator[None]:
        yield


GENERATOR = "is a generator, and does nothing when it is called: return what is meant"
NO_HOOK = "on_respons is not a hook, and is never called: did you mean on_response?"
WRONG: list[tuple[type[Layer], list[str]]] = [
    (Right, []),
    (Layer, []),
    (Misnamed, [NO_HOOK]),
    (
        Inherits,
        [NO_HOOK, "onrequest is not a hook, and is never called: did you mean on_request?"],
    ),
    (
        Yields,
        [f"{name} {GENERATOR}" for name in ("on_request", "on_response_body", "on_end")],
    ),
    (AwaitsAsOfOld, []),
    (TakesNothing, ["on_request has to take request"]),
    (
        TakesMore,
        [
            "on_end is async: make it plain, and begin a task in it if need be",
            "on_response_body has to take request, response, piece, end",
        ],
    ),
]


@pytest.mark.parametrize(("kind", "told"), WRONG)
def test_hooks_that_nobody_would_call(kind: type[Layer], told: list[str]) -> None:
    assert hook_problems(kind) == told
    if not told:
        assert make_layer("a:B", kind).__class__ is kind
        return
    for made in (kind, kind()):
        with pytest.raises(LayerError, match=re.escape(f"python layer a:B: {'; '.join(told)}")):
            make_layer("a:B", made)


def test_a_layer_that_is_handed_in_by_another_name() -> None:
    told = r"python layer nowhere:Named: No module named 'nowhere'; handed in are shop:Named$"
    with pytest.raises(LayerError, match=told):
        meshcore.Proxy(meshcore.load_text(MESH), layers={"shop:Named": Right()})
    with pytest.raises(LayerError, match=r"No module named 'nowhere'$"):
        meshcore.Proxy(meshcore.load_text(MESH))


def test_a_layer_that_no_stack_names_is_told() -> None:
    layers = {"nowhere:Named": Right(), "shop:Named": Right()}
    told = "^layers: no stack names shop:Named; those that are named: nowhere:Named$"
    with pytest.warns(UserWarning, match=told) as caught:
        meshcore.Proxy(meshcore.load_text(MESH), layers=layers)
    assert caught[0].filename == __file__
    with warnings.catch_warnings(action="error"):
        meshcore.Proxy(meshcore.load_text(MESH), layers={"nowhere:Named": Right()})
    with pytest.raises(ValueError, match="the configuration has no layer 'shop:Named'"):
        Mesh(MESH, layers=layers)


def test_an_answer_names_what_is_wrong() -> None:
    wrong: list[tuple[tuple[Any, ...], str]] = [
        ((200, [], "text"), r"body: expected bytes, as text.encode\(\) gives them, got 'text'"),
        ((200, [], 5), "body: expected bytes, got 5"),
        (
            (200, {"a": "b"}),
            r"headers: expected a list of pairs of texts, as list\(headers.items\(\)\) is, got",
        ),
        ((200, [("a", 1)]), r"headers: expected a list of pairs of texts, got \[\('a', 1\)\]"),
    ]
    for given, told in wrong:
        with pytest.raises(TypeError, match=f"^{told}"):
            Answer(*given)
    answer = Answer(200, (("a", "b"),), bytearray(b"text"))  # type: ignore[arg-type]
    assert answer.status == 200
