"""What of a request's body is kept, until it was sent and in case it is sent again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from meshcore._core import Chunk

    Pieces = list[bytes | bytearray | Chunk]

# Up to this size pieces are joined: each alone costs some hundred bytes beside its own.
_SMALL_BYTES: Final = 512


def keep_piece(kept: Pieces | None, piece: bytes | Chunk) -> Pieces:
    """All pieces with one more behind them. Amortised O(bytes)."""
    if kept is None:
        return [piece]
    if len(piece) > _SMALL_BYTES:
        kept.append(piece)
    elif isinstance(kept[-1], bytearray):
        kept[-1] += bytes(piece)
    else:
        kept.append(bytearray(bytes(piece)))
    return kept


def as_sent(piece: bytes | bytearray | Chunk) -> bytes | Chunk:
    """A kept piece as a connection takes it."""
    return bytes(piece) if isinstance(piece, bytearray) else piece
