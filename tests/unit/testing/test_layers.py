"""A layer alone: requests and responses of a test's own, and what came of its hooks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from meshcore import Answer, Layer, Request, Response
from meshcore.testing import Changes, Mesh, Ran, request, response, run, run_async

GET = "GET https://a.example/v1/%7Ex?q=1"


def in_a_loop(layer: Layer, *args: Any) -> Ran:
    return asyncio.run(run_async(layer, *args))


both = pytest.mark.parametrize("do", [run, in_a_loop])


def test_a_request_is_as_a_layer_meets_it() -> None:
    made = request(GET, headers={"X-Tenant": "t"}, client="2001:db8::7")
    assert (made.method, made.scheme, made.host) == ("GET", "https", "a.example")
    assert (made.path, made.raw_path, made.query) == ("/v1/~x", "/v1/%7Ex", "q=1")
    assert (made.client, made.route, made.state) == ("2001:db8::7", None, {})
    assert made.headers() == [("host", "a.example"), ("x-tenant", "t")]
    assert request("GET http://a.example").client == "192.0.2.1"
    assert request(GET, client=None).client == "unknown"
    assert request(GET, route="v1/all").route == "v1/all"


def test_what_only_trusted_proxies_may_say_is_taken_out_as_in_the_proxy() -> None:
    made = request(GET, headers={"x-forwarded-for": "10.0.0.1"})
    assert (made.header("x-forwarded-for"), made.client) == (None, "192.0.2.1")


def test_a_body_comes_with_its_length() -> None:
    made = request("POST http://a.example/", body=b"hello")
    assert (made.header("content-length"), made.end) == ("5", True)
    call = request("POST http://a.example/a.B/C", headers={"content-type": "application/grpc+x"})
    assert (call.http_version, call.end) == ("2", True)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("GET https://a.example/%00", "no layer sees this request: "),
        ("GET http://a.example/" + "a" * 70_000, "no layer sees this request: "),
        ("GET http://a..b]/", "no layer sees this request: "),
        ("GET", "expected a method and a URL"),
    ],
)
def test_what_no_layer_sees_is_an_error(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        request(text)
    assert told in str(raised.value)


def test_a_route_must_be_one_that_lets_it_pass() -> None:
    with pytest.raises(ValueError, match="no layer sees this request: 405 method_not_allowed"):
        request("CONNECT a.example:443", route="all")
    assert request("CONNECT a.example:443").tunnel
    for wrong in ("", "two words", '"', "é"):
        with pytest.raises(ValueError, match="names no route: a name is one word"):
            request(GET, route=wrong)


def test_responses_are_an_endpoints() -> None:
    made = response(404, headers=[("set-cookie", "a"), ("set-cookie", "b")], body=b"none")
    assert (made.status, made.reason, made.end) == (404, None, True)
    cookies = [value for name, value in made.headers() if name == "set-cookie"]
    assert cookies == ["a", "b"]
    assert response(204).status == 204
    for wrong in (99, 199, 600, True):
        with pytest.raises(ValueError, match="no status of a response: expected 200 to 599"):
            response(wrong)
    with pytest.raises(ValueError, match="a 304 has no body"):
        response(304, body=b"x")
    with pytest.raises(ValueError, match="no endpoint may say so"):
        response(headers={f"x-{number}": "y" for number in range(1000)})


class Plain(Layer):
    """Does what the request asks for."""

    def on_request(self, request: Request) -> Any:
        request.state["seen"] = True
        request.set_header("x-in", "new")
        request.remove_header("cookie")
        return self._wish(request.header("x-request"))

    def on_response(self, request: Request, response: Response) -> Any:
        response.set_header("x-reason", str(response.reason))
        assert request.state["seen"]
        return self._wish(request.header("x-response"))

    def _wish(self, wish: str | None) -> Any:
        if wish == "raise":
            raise KeyError("as asked")
        return {"answer": Answer(418, [("x-a", "1")], b"tea"), "odd": 7}.get(str(wish))


class Async(Plain):
    async def on_request(self, request: Request) -> Any:
        await asyncio.sleep(0)
        return super().on_request(request)

    async def on_response(self, request: Request, response: Response) -> Any:
        await asyncio.sleep(0)
        return super().on_response(request, response)


class Deaf(Plain):
    local_answers = False


layers = pytest.mark.parametrize("layer", [Plain(), Async()], ids=["plain", "async"])


def asked(**headers: str) -> Request:
    return request(GET, headers={name.replace("_", "-"): x for name, x in headers.items()})


@both
@layers
def test_what_passes_tells_its_changes(do: Callable[..., Ran], layer: Layer) -> None:
    ran = do(layer, asked(cookie="c", x_in="old"), response(headers={"a": "b"}, body=b"all"))
    assert ran.passed
    assert ran.request_changes == Changes((("x-in", "new"),), (("cookie", "c"), ("x-in", "old")))
    assert ran.response_changes == Changes((("x-reason", "None"),))
    assert (ran.status, ran.header("A"), ran.body) == (200, "b", b"all")


@both
@layers
def test_without_a_response_only_the_request_is_shown(do: Callable[..., Ran], layer: Layer) -> None:
    ran = do(layer, asked(x_response="raise"))
    assert (ran.passed, ran.response, ran.status, ran.body) == (True, None, None, b"")
    assert not ran.response_changes


@both
@layers
def test_either_hook_may_answer(do: Callable[..., Ran], layer: Layer) -> None:
    for wish in ({"x_request": "answer"}, {"x_response": "answer"}):
        ran = do(layer, asked(**wish), 200)
        assert ran.answer is not None
        assert (ran.passed, ran.status, ran.header("x-a"), ran.body) == (False, 418, "1", b"tea")
        assert (ran.response is None) == ("x_request" in wish)


@both
@layers
def test_what_a_hook_raises_is_raised(do: Callable[..., Ran], layer: Layer) -> None:
    for wish in ({"x_request": "raise"}, {"x_response": "raise"}):
        with pytest.raises(KeyError, match="as asked"):
            do(layer, asked(**wish), 200)
    with pytest.raises(TypeError, match=r"returned 7, not an Answer or None"):
        do(layer, asked(x_request="odd"))


@both
def test_answers_given_here_are_shown_to_who_asks_for_them(do: Callable[..., Ran]) -> None:
    limited = Answer(429, [("retry-after", "1")])
    ran = do(Plain(), asked(), limited)
    assert (ran.status, ran.header("x-reason")) == (429, "layer_response")
    ran = do(Deaf(), asked(), limited)
    assert (ran.status, ran.header("x-reason"), ran.passed) == (429, None, True)


VARIABLE: ContextVar[str] = ContextVar("VARIABLE", default="none")


class Sets(Layer):
    def on_request(self, request: Request) -> None:
        VARIABLE.set("of the request")

    def on_response(self, request: Request, response: Response) -> None:
        response.set_header("x-variable", VARIABLE.get())


class SetsLater(Sets):
    async def on_request(self, request: Request) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        super().on_request(request)


@both
@pytest.mark.parametrize("layer", [Sets(), SetsLater()], ids=["plain", "async"])
def test_both_hooks_run_in_one_context_of_their_own(do: Callable[..., Ran], layer: Layer) -> None:
    assert do(layer, asked(), 200).header("x-variable") == "of the request"
    assert VARIABLE.get() == "none"


async def test_in_a_loop_what_waits_is_awaited() -> None:
    assert (await run_async(Async(), asked())).passed
    with pytest.raises(RuntimeError, match=r"await run_async"):
        run(Async(), asked())
    assert run(Plain(), asked()).passed
    assert run(Layer(), asked(), 200).passed


class Redact(Layer):
    """Writes stars for digits; adds up what it saw in the trailers."""

    def __init__(self) -> None:
        self.pieces: list[tuple[str, bytes, bool]] = []

    def on_request_body(self, request: Request, piece: bytes, end: bool) -> bytes | Answer:
        self.pieces.append(("in", piece, end))
        return Answer(422) if b"!" in piece else piece.translate(STARS)

    async def on_response_body(
        self, request: Request, response: Response, piece: bytes, end: bool
    ) -> bytes | None:
        await asyncio.sleep(0)
        self.pieces.append(("out", piece, end))
        return piece.translate(STARS) if end else None

    async def on_response_trailers(
        self, request: Request, response: Response, trailers: list[tuple[str, str]]
    ) -> list[tuple[str, str]]:
        return [*trailers, ("x-pieces", str(len(self.pieces)))]


STARS = bytes.maketrans(b"0123456789", b"*" * 10)
POST = "POST https://a.example/"


@both
def test_bodies_are_put_through_their_hooks(do: Callable[..., Ran]) -> None:
    redact = Redact()
    ran = do(redact, request(POST, body=b"no 1"), response(body=b"no 2", trailers={"x-a": "1"}))
    assert redact.pieces == [("in", b"no 1", True), ("out", b"no 2", True)]
    assert (ran.request_body, ran.body) == (b"no *", b"no *")
    assert ran.trailers == (("x-a", "1"), ("x-pieces", "2"))
    assert ran.passed


def test_bodies_come_in_pieces() -> None:
    redact = Redact()
    ran = run(redact, request(POST, body=b"12345"), response(body=b"6789"), piece_bytes=2)
    came = [(b"12", False), (b"34", False), (b"5", True)]
    assert [x[1:] for x in redact.pieces if x[0] == "in"] == came
    assert (ran.request_body, ran.body) == (b"*****", b"67**")


def test_what_has_no_body_is_not_shown_to_hooks() -> None:
    redact = Redact()
    ran = run(redact, request(GET), response(204))
    assert (redact.pieces, ran.request_body, ran.body) == ([], b"", b"")
    run(redact, request(GET), Answer(200, [], b"5"))
    assert redact.pieces == [], "answers are whole"


def test_a_body_is_answered_within() -> None:
    ran = run(Redact(), request(POST, body=b"12!45"), response(), piece_bytes=2)
    assert (ran.status, ran.request_body, ran.response) == (422, b"**", None)


@pytest.mark.parametrize("made", ["text", [("content-length", "1")]])
def test_what_is_no_piece_or_trailer_is_an_error(made: object) -> None:
    class Wrong(Layer):
        def on_request_body(self, request: Request, piece: bytes, end: bool) -> Any:
            return made if isinstance(made, str) else None

        def on_request_trailers(self, request: Request, trailers: list[tuple[str, str]]) -> Any:
            return made

    with pytest.raises(TypeError, match="Wrong returned "):
        run(Wrong(), request(POST, body=b"a", trailers={"x-a": "1"}))


def test_a_mesh_puts_bodies_through_layers() -> None:
    mesh = Mesh(MESH, layers={"a:Redact": Redact()})
    asked = mesh.decide(POST, body=b"no 1")
    assert asked.sent is not None
    assert (asked.sent.body, asked.sent.header("content-length")) == (b"no *", None)
    got = mesh.succeed(asked, body=b"no 2")
    assert (got.status, got.body) == (200, b"no *")
    refused = mesh.decide(POST, body=b"!")
    assert (refused.action, refused.status, refused.reason) == ("answer", 422, "layer_response")


MESH = """
version: 1
listeners: {edge: {bind: "127.0.0.1:0", layers: [{python: "a:Redact"}]}}
routes: [{name: all, upstream: one}]
upstreams: {one: {endpoints: ["127.0.0.1:1"]}}
"""
