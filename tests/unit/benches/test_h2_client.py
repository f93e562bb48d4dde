"""The client of the load benchmark sees what h2load does not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import h2.config
import h2.connection
import h2.events
import pytest
from benches.load.h2_client import FRAMED, Client, carries_grpc


def _serve(listener: socket.socket) -> None:
    """One connection; the path says what is wrong with its answers."""
    made, _ = listener.accept()
    path = ""
    state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    with made:
        while part := made.recv(65536):
            for event in state.receive_data(part):
                match event:
                    case h2.events.RequestReceived():
                        path = dict(event.headers)[b":path"].decode()
                        _answer(state, event.stream_id, path)
            made.sendall(state.data_to_send())
            if path == "/cut":
                return


def _answer(state: h2.connection.H2Connection, stream: int, path: str) -> None:
    if path == "/reset":
        state.reset_stream(stream)
    elif path != "/cut":
        state.send_headers(stream, [(":status", "503" if path == "/busy" else "200")])
        state.send_data(stream, FRAMED, end_stream=path != "/call")
        if path == "/call":
            state.send_headers(stream, [("grpc-status", "0")], end_stream=True)


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_serve, args=(listener,))
        thread.start()
        yield listener.getsockname()[1]
        thread.join(5)
        assert not thread.is_alive()


def test_many_streams_are_answered(port: int) -> None:
    client = Client(port)
    client.get("/", 20)
    assert [answer.data for answer in client.answers()] == [FRAMED] * 20
    client.get("/")
    assert len(client.answers()) == 1
    client.close()


@pytest.mark.parametrize("path", ["/busy", "/reset", "/cut"])
def test_what_went_wrong_is_said(port: int, path: str) -> None:
    client = Client(port)
    client.get(path)
    with pytest.raises(RuntimeError, match=r"200|given up|closed"):
        client.answers()
    client.close()


def test_a_call_has_its_message_and_its_status(port: int) -> None:
    carries_grpc(port, "/call")


def test_a_call_without_a_status_is_refused(port: int) -> None:
    with pytest.raises(RuntimeError, match="not the answer"):
        carries_grpc(port, "/")
