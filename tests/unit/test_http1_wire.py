"""A client's connection over HTTP/1.1 below its requests."""

from __future__ import annotations

import asyncio
from typing import cast

from meshcore.downstream.http1_phase import CLOSING, IDLE
from meshcore.downstream.http1_wire import Http1Wire


class Asked:
    """A transport that notes what it is asked, and has written all."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def close(self) -> None:
        self.asked.append("close")

    def get_write_buffer_size(self) -> int:
        self.asked.append("size")
        return 0


def test_the_last_words_of_tls_go_out_with_what_is_held() -> None:
    """Who is asked how much waits sends what is held: the end is behind that by then."""
    transport, wire = Asked(), Http1Wire()
    wire._transport = cast("asyncio.Transport", transport)
    wire._phase, wire._watch = IDLE, None
    wire._close(0, linger=False)
    assert transport.asked == ["close", "size"]
    assert wire._phase == CLOSING
