"""Every request step by step, and nothing past the loop's transports.

Nobody can tell it from the few calls in which most go. For `pytest --stepped tests/wire`, and for
tests that do both.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

from meshcore._core import CodecLimits, ServerCodec

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator


class Stepped:
    """A codec that begins no request beside reading it."""

    def __init__(self, limits: CodecLimits, secure: bool) -> None:
        self._codec = ServerCodec(limits, secure)

    def begin(self, data: bytes, *_: object) -> object:
        return self._codec.receive(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codec, name)


class NotTheCores:
    """An HTTP/2 codec's type whose connections begin nothing beside reading, and take no whole
    responses."""


class Written:
    """An `Outbox` that holds nothing: each message is written to its transport at once."""

    def __init__(self, *_: object) -> None:
        pass

    @staticmethod
    def over(transport: asyncio.Transport) -> asyncio.Transport:
        return transport


# Where a whole response may be sent in one call: nowhere.
NOWHERE = property(lambda _: None, lambda *_: None)


@contextmanager
def step_by_step() -> Iterator[None]:
    """Requests and responses in steps, by both protocols; what is sent goes as it goes."""
    with ExitStack() as patched:
        patched.enter_context(mock.patch("meshcore.downstream.http1.ServerCodec", Stepped))
        client = "meshcore.downstream.http1.Http1Connection.whole_to"
        patched.enter_context(mock.patch(client, NOWHERE))
        patched.enter_context(mock.patch("meshcore.upstream.http1.ASKED", -1))
        patched.enter_context(mock.patch("meshcore.downstream.http2.H2ServerCodec", NotTheCores))
        yield


@contextmanager
def by_the_loop() -> Iterator[None]:
    """The same, and nothing is sent or read natively."""
    with step_by_step(), mock.patch("meshcore.process.worker.Outbox", Written):
        yield
