"""A small HTTP/2 client over a plain socket: it can wait with a connection, and sees trailers."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events

PATIENCE_S = 10.0
READ_BYTES = 1 << 16
MESSAGE = b"a message of gRPC, of about sixty-four bytes like the others ..."
# A message's frame: not compressed, and its length.
FRAMED = b"\0" + len(MESSAGE).to_bytes(4, "big") + MESSAGE


@dataclass
class Answer:
    """What came back on a stream."""

    status: str = ""
    data: bytes = b""
    trailers: dict[str, str] = field(default_factory=dict)
    ended: bool = False


class Client:
    """One connection, by prior knowledge; `RuntimeError` when a stream or it is given up."""

    def __init__(self, port: int) -> None:
        config = h2.config.H2Configuration(client_side=True)
        self._state = h2.connection.H2Connection(config)
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self._answers: dict[int, Answer] = {}
        self._state.initiate_connection()

    def get(self, path: str, times: int = 1) -> None:
        """Ask, on as many streams at once."""
        for _ in range(times):
            self._start("GET", path, [], end=True)
        self._flush()

    def call(self, path: str, message: bytes) -> None:
        """Ask as a gRPC client does, with a message that has its frame."""
        fields = [("content-type", "application/grpc"), ("te", "trailers")]
        stream = self._start("POST", path, fields, end=False)
        self._state.send_data(stream, message, end_stream=True)
        self._flush()

    def _start(self, method: str, path: str, more: list[tuple[str, str]], end: bool) -> int:
        stream = self._state.get_next_available_stream_id()
        pseudo = [(":method", method), (":scheme", "http"), (":path", path)]
        fields = [*pseudo, (":authority", "localhost"), *more]
        self._state.send_headers(stream, fields, end_stream=end)
        self._answers[stream] = Answer()
        return stream

    def _flush(self) -> None:
        self._socket.sendall(self._state.data_to_send())

    def answers(self) -> list[Answer]:
        """Wait for all that was asked since the last time; each has status 200."""
        while not all(answer.ended for answer in self._answers.values()):
            part = self._socket.recv(READ_BYTES)
            if not part:
                raise RuntimeError("the connection was closed")
            for event in self._state.receive_data(part):
                self._take(event)
            self._flush()
        found = list(self._answers.values())
        self._answers.clear()
        if any(answer.status != "200" for answer in found):
            raise RuntimeError(f"not answered with 200: {found}")
        return found

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived():
                self._answers[event.stream_id].status = _text(event.headers)[":status"]
            case h2.events.DataReceived():
                self._answers[event.stream_id].data += event.data
                counted = event.flow_controlled_length
                self._state.acknowledge_received_data(counted, event.stream_id)
            case h2.events.TrailersReceived():
                self._answers[event.stream_id].trailers = _text(event.headers)
            case h2.events.StreamEnded():
                self._answers[event.stream_id].ended = True
            case h2.events.StreamReset() | h2.events.ConnectionTerminated():
                raise RuntimeError(f"given up by the other side: {event}")

    def close(self) -> None:
        """Close without a word, as most clients do."""
        self._socket.close()


def carries_grpc(port: int, path: str) -> None:
    """`RuntimeError` unless a call's message and status come through: h2load sees no trailers."""
    client = Client(port)
    client.call(path, FRAMED)
    (answer,) = client.answers()
    client.close()
    if answer.data != FRAMED or answer.trailers.get("grpc-status") != "0":
        raise RuntimeError(f"not the answer of the call: {answer}")


def _text(fields: Iterable[tuple[bytes | str, bytes | str]]) -> dict[str, str]:
    return {_word(name): _word(value) for name, value in fields}


def _word(raw: bytes | str) -> str:
    return raw.decode() if isinstance(raw, bytes) else raw
