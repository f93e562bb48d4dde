"""What is kept of a body costs about its bytes, however small its pieces are."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import hypothesis.strategies as st
from hypothesis import given

from meshcore.exchange.kept import as_sent, keep_piece

if TYPE_CHECKING:
    from meshcore.exchange.kept import Pieces


@given(st.lists(st.binary(min_size=1, max_size=2_000)))
def test_nothing_is_lost_or_moved(pieces: list[bytes]) -> None:
    kept: Pieces | None = None
    for piece in pieces:
        kept = keep_piece(kept, piece)
    assert b"".join(bytes(as_sent(piece)) for piece in kept or ()) == b"".join(pieces)


def test_small_pieces_are_joined() -> None:
    tracemalloc.start()
    try:
        kept: Pieces | None = None
        for number in range(60_000):
            kept = keep_piece(kept, number.to_bytes(2, "big"))
        assert kept is not None
        assert len(kept) == 2
        assert tracemalloc.get_traced_memory()[0] < 2 * 120_000
    finally:
        tracemalloc.stop()
