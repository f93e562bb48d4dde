"""The client's side of a connection, on the package ``h2``: requests in, responses out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame

from meshcore._core import (
    body_of,
    h2_list_bytes,
    h2_priority,
    h2_read_request,
    h2_write_informational,
    h2_write_reply,
    h2_write_response,
    h2_write_trailers,
)
from meshcore.codec.reference import SHORT_BODY, Reference
from meshcore.codec.reference_sender import HEARD
from meshcore.codec.reference_stream import Stream, content_length
from meshcore.errors import CodecError

if TYPE_CHECKING:
    from meshcore._core import Answer, CodecLimits, Request, Response, Ticket
    from meshcore.codec.reference_stream import Fields
    from meshcore.config.snapshot import Http2Spec

SHUTDOWN: Final = b"shutdown"
HIGHEST_STREAM: Final = 2**31 - 1


class ReferenceServer(Reference):
    """`meshcore.codec.ServerCodec` in Python. For one thread."""

    def __init__(self, limits: CodecLimits, secure: bool, spec: Http2Spec, now_ns: int) -> None:
        super().__init__(True, limits, spec, now_ns)
        self._secure = secure
        self._draining = False
        self._warned = False
        self._last: int | None = None  # no stream beyond it is taken
        settings = {
            SettingCodes.MAX_CONCURRENT_STREAMS: spec.streams,
            SettingCodes.ENABLE_CONNECT_PROTOCOL: 1,
        }
        self._greet(settings, h2_list_bytes(limits))

    @property
    def queued(self) -> int:
        """Bytes of responses that wait for window or for the socket."""
        return self._queued

    def queued_on(self, stream: int) -> int:
        """Bytes that wait on one stream."""
        known = self._streams.get(stream)
        return known.outbox.queued if known is not None else 0

    # --- requests -----------------------------------------------------------------------------

    def _on_head(self, number: int, fields: Fields, ended: bool) -> None:
        if self._last is not None:
            return self._reset(number, ErrorCodes.REFUSED_STREAM)  # the client was told
        if len(self._streams) >= self._spec.streams:
            return self._fault(number, "more streams than allowed", ErrorCodes.REFUSED_STREAM)
        stream = Stream(number)
        inbox = stream.inbox
        try:
            head = h2_read_request(fields, ended, self._limits, self._secure)
        except CodecError as error:
            self._streams[number] = stream
            return self._refuse(stream, error, fields)
        if isinstance(head, str):
            return self._fault(number, head)
        inbox.declared = content_length(fields)
        if ended and not inbox.end():
            return self._fault(number, SHORT_BODY)
        inbox.head = head
        # Nothing of a tunnel passes before there is one (CVE-2026-2833).
        inbox.paused = head.method == "CONNECT" and not ended
        for name, value in fields:
            if name == b"priority":
                stream.outbox.priority = h2_priority(value)
                break
        self._streams[number] = self._touched[number] = stream
        return None

    def _on_interim(self, number: int, fields: Fields) -> None:
        """A request is never interim: to the package such a list is malformed."""

    def _is_awaited(self, stream: Stream) -> bool:
        return not stream.left and stream.inbox.head is None

    # --- responses ----------------------------------------------------------------------------

    def send_response(
        self, stream: int, request: Request, response: Response, ticket: Ticket
    ) -> int:
        """A relayed head, and what of the body came with it."""
        known = self._streams.get(stream)
        if known is None:
            return 0
        fields, bodiless = h2_write_response(request, response, ticket)
        body = body_of(response)
        trailers = h2_write_trailers(body, ticket, True) if body.end else None
        ends = bodiless or (not body.data and trailers == [])
        self._send_head(known, fields, ends)
        return 0 if ends else self._send(known, body.data, trailers)

    def send_informational(self, stream: int, response: Response, ticket: Ticket) -> None:
        """A relayed 1xx."""
        known = self._streams.get(stream)
        if known is not None and not known.outbox.begun:
            self._h2.send_headers(stream, h2_write_informational(response, ticket))
            self._collect()

    def send_answer(self, stream: int, request: Request | None, answer: Answer) -> None:
        """A whole answer made here."""
        known = self._streams.get(stream)
        if known is None:
            return
        fields, body = h2_write_reply(request, answer)
        self._send_head(known, fields, not body)
        if body:
            self._send(known, body, [])

    def leave(self, stream: int) -> bool:
        """The owner is done with the stream; ``False``: it is still there."""
        known = self._streams.get(stream)
        if known is not None:
            known.left = True
            self._close_inbox(known)
            self._forget_if_over(known)
        return stream not in self._streams

    # --- the end ------------------------------------------------------------------------------

    def drain(self) -> None:
        """Begin to take no more streams, with a PING."""
        if not (self.closed or self._draining):
            self._draining = True
            self._h2.ping(SHUTDOWN)
            self._collect()

    def warn(self) -> None:
        """The first GOAWAY (RFC 9113 §6.8)."""
        if not (self.closed or self._warned):
            self._draining = self._warned = True
            self._collect()
            # By hand: to the package a GOAWAY is the end.
            self._output += GoAwayFrame(0, last_stream_id=HIGHEST_STREAM).serialize()

    def _on_pong(self, data: bytes) -> None:
        if self._draining and not self._warned and data == SHUTDOWN:
            self._events.append((0, HEARD))
        else:
            super()._on_pong(data)

    def send_goaway(self, reason: bytes) -> None:
        """Say which stream is the last, once; again only to give a reason."""
        if self.closed or (self._last is not None and not reason):
            return
        self._draining = self._warned = True
        if self._last is None:
            self._last = self._h2.highest_inbound_stream_id
        self._collect()
        goaway = GoAwayFrame(0, last_stream_id=self._last, additional_data=reason)
        self._output += goaway.serialize()

    def _close_if_done(self) -> None:
        if self._last is not None and not self._streams:
            self._close(ErrorCodes.NO_ERROR, "connection drained")

    def _on_goaway(self, last: int) -> None:
        """A client that goes opens no more streams; those that are open go on."""

    def abandon(self, code: int) -> None:
        """End every stream and the connection."""
        if not self.closed:
            self._fail(code, "connection given up")
