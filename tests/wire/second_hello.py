"""A client of TLS 1.3 that names protocols in its first message and none in its second.

By RFC 8446 with X25519 and AES-128-GCM alone; it verifies nothing. No library writes such messages.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HANDSHAKE, CHANGE_CIPHER_SPEC, DATA = 22, 20, 23
EMPTY = hashlib.sha256(b"").digest()
ZEROS = bytes(32)


def counted(bytes_: int, content: bytes) -> bytes:
    """Behind its length."""
    return len(content).to_bytes(bytes_, "big") + content


def _extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2, "big") + counted(2, content)


def hello(share: bytes, protocols: tuple[bytes, ...]) -> bytes:
    """A first message (§4.1.2); without a share the server asks for a second."""
    shares = b"\0\x1d" + counted(2, share) if share else b""
    extensions = [
        _extension(10, counted(2, b"\0\x1d")),
        _extension(13, counted(2, b"\4\3\x08\4")),
        _extension(43, counted(1, b"\3\4")),
        _extension(51, counted(2, shares)),
    ]
    if protocols:
        names = b"".join(counted(1, each) for each in protocols)
        extensions.append(_extension(16, counted(2, names)))
    body = b"\3\3" + os.urandom(32) + counted(1, b"") + counted(2, b"\x13\1") + counted(1, b"\0")
    return b"\1" + counted(3, body + counted(2, b"".join(extensions)))


def _expand(secret: bytes, label: bytes, context: bytes, length: int) -> bytes:
    """`HKDF-Expand-Label` of at most one block (§7.1)."""
    info = length.to_bytes(2, "big") + counted(1, b"tls13 " + label) + counted(1, context)
    return hmac.digest(secret, info + b"\1", "sha256")[:length]


class _Sealer:
    """Records of one direction (§5.2, §5.3)."""

    def __init__(self, secret: bytes) -> None:
        self._key = AESGCM(_expand(secret, b"key", b"", 16))
        self._iv = int.from_bytes(_expand(secret, b"iv", b"", 12), "big")
        self._count = 0

    def _nonce(self) -> bytes:
        self._count += 1
        return (self._iv ^ (self._count - 1)).to_bytes(12, "big")

    def open(self, head: bytes, body: bytes) -> tuple[int, bytes]:
        plain = self._key.decrypt(self._nonce(), body, head).rstrip(b"\0")
        return plain[-1], plain[:-1]

    def seal(self, kind: int, plain: bytes) -> bytes:
        inner = plain + bytes([kind])
        head = b"\x17\3\3" + (len(inner) + 16).to_bytes(2, "big")
        return head + self._key.encrypt(self._nonce(), inner, head)


class Client:
    """One handshake, with a HelloRetryRequest in it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._transcript = b""
        self._messages = b""
        self._opener: _Sealer | None = None

    async def _record(self) -> tuple[int, bytes]:
        head = await self._reader.readexactly(5)
        body = await self._reader.readexactly(int.from_bytes(head[3:], "big"))
        if head[0] == CHANGE_CIPHER_SPEC:
            return await self._record()
        return (head[0], body) if self._opener is None else self._opener.open(head, body)

    async def _message(self) -> bytes:
        while len(self._messages) < 4 or len(self._messages) < self._length():
            kind, content = await self._record()
            assert kind == HANDSHAKE, (kind, content)
            self._messages += content
        message = self._messages[: self._length()]
        self._messages = self._messages[self._length() :]
        return message

    def _length(self) -> int:
        return 4 + int.from_bytes(self._messages[1:4], "big")

    def _digest(self) -> bytes:
        return hashlib.sha256(self._transcript).digest()

    def _say(self, message: bytes) -> None:
        self._transcript += message
        self._writer.write(b"\x16\3\1" + counted(2, message))

    async def shake_hands(self, second: tuple[bytes, ...]) -> _Sealer:
        """Names `h2` first, and then these protocols. What is sealed by what comes back is read."""
        key = X25519PrivateKey.generate()
        self._say(hello(b"", (b"h2",)))
        retry = await self._message()
        self._transcript = b"\xfe\0\0" + counted(1, self._digest()) + retry
        self._say(hello(key.public_key().public_bytes_raw(), second))
        answer = await self._message()
        self._transcript += answer
        shared = key.exchange(X25519PublicKey.from_public_bytes(_share_in(answer)))
        early = hmac.digest(ZEROS, ZEROS, "sha256")
        secret = hmac.digest(_expand(early, b"derived", EMPTY, 32), shared, "sha256")
        ours = _expand(secret, b"c hs traffic", self._digest(), 32)
        self._opener = _Sealer(_expand(secret, b"s hs traffic", self._digest(), 32))
        message = b""
        while message[:1] != b"\x14":
            message = await self._message()
            self._transcript += message
        master = hmac.digest(_expand(secret, b"derived", EMPTY, 32), ZEROS, "sha256")
        sealer = _Sealer(_expand(master, b"c ap traffic", self._digest(), 32))
        self._opener = _Sealer(_expand(master, b"s ap traffic", self._digest(), 32))
        finished = hmac.digest(_expand(ours, b"finished", b"", 32), self._digest(), "sha256")
        self._writer.write(_Sealer(ours).seal(HANDSHAKE, b"\x14" + counted(3, finished)))
        return sealer

    async def ask(self, second: tuple[bytes, ...], request: bytes) -> bytes:
        """What comes for a request, up to the end: nothing if it is not answered."""
        sealer, data = await self.shake_hands(second), b""
        self._writer.write(sealer.seal(DATA, request))
        try:
            while b"\r\n\r\n" not in data:
                kind, content = await self._record()
                data += content if kind == DATA else b""
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        self._writer.close()
        return data


def _share_in(server_hello: bytes) -> bytes:
    """The share in a server's first message (§4.1.3, §4.2.8)."""
    rest = server_hello[4 + 2 + 32 :]
    rest = rest[1 + rest[0] + 2 + 1 + 2 :]
    while rest:
        kind, length = int.from_bytes(rest[:2], "big"), int.from_bytes(rest[2:4], "big")
        if kind == 51:
            return rest[8 : 4 + length]
        rest = rest[4 + length :]
    raise ValueError("no share")
