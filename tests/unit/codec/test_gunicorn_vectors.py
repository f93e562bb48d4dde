"""gunicorn's request vectors: what it refuses is refused here; what it takes is taken, except
where the table says why not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from meshcore._core import Body, CodecLimits, Request, ServerCodec
from meshcore.errors import CodecError

from .h2_play import some_ticket

FOLDER = Path(__file__).parents[2] / "data" / "gunicorn"

# Valid for gunicorn, refused here, with the reason that must be given.
STRICTER = {
    # The authority is no host and port (RFC 3986 §3.2.2); they decide routing here.
    "002": "invalid host",
    "003": "invalid host",
    # A fragment is never sent (RFC 9112 §3.2): what it is read as differs.
    "005": "# in query",
    # One coding, `chunked`, is spoken (RFC 9112 §6.1); anything else might be read in two ways.
    "025": "more than one transfer-encoding",
    "025_line": "unknown transfer coding",
    "029": "more than one transfer-encoding",
    "030": "more than one transfer-encoding",
    "rfc9112_smuggle_gzip_chunked_01": "unknown transfer coding",
    "rfc9112_smuggle_te_identity_chunked_01": "unknown transfer coding",
    # Gunicorn's vectors for its compatibility switches (RFC 9112 §5.1, §5.2).
    "028": "invalid field name",
    "compat_obs_fold": "invalid field name",
    "compat_obs_fold_huge": "invalid field name",
    # CGI would read `Content_Length` as the length (semantics of many upstreams).
    "040": "framing field with underscores",
    "040_compat": "framing field with underscores",
    # The PROXY protocol is not spoken on a listener.
    "pp_01": "a PROXY header on a listener without",
    "pp_02": "a PROXY header on a listener without",
    # In one read a PROXY header is seen; else its second empty line comes before the rest.
    "pp_04": "bad_request",
    "pp_05": "bad_request",
    # Userinfo hides the host from people and logs (RFC 9110 §4.2.4).
    "rfc9112_target_absolute_userinfo_01": "host and target disagree",
}
# Invalid for gunicorn, taken here.
LAXER = {
    # Under this codec's own limits, which are larger or smaller by configuration.
    "006": "a longer target is allowed",
    "007": "more fields are allowed",
    "008": "longer fields are allowed",
    "limit_header_default_01": "longer fields are allowed",
    # Several content types frame nothing; the upstream sees them as they came.
    "041": "content-type twice",
    # Such trailer fields are dropped (RFC 9110 §6.5.1), which the test below asserts.
    "rfc9110_trailer_forbidden_cl_01": "trailer field is dropped",
    "rfc9110_trailer_forbidden_host_01": "trailer field is dropped",
    "rfc9110_trailer_forbidden_te_01": "trailer field is dropped",
}
# Not complete: nothing is decided, and the time-out of the head or body answers.
CUT_OFF = {"001", "pp_01", "pp_02", "pp_03", "rfc9112_chunked_missing_final_crlf_01"}


def bytes_of(path: Path) -> bytes:
    """The request of a file."""
    data = path.read_bytes().replace(b"\n", b"")
    for written, meant in ((b"\\r", b"\r"), (b"\\n", b"\n"), (b"\\0", b"\0"), (b"\\t", b"\t")):
        data = data.replace(written, meant)
    return re.sub(rb"\\x([0-9a-fA-F]{2})", lambda m: bytes([int(m[1], 16)]), data)


def with_host(data: bytes) -> bytes:
    """Several vectors lack the Host that HTTP/1.1 requires (RFC 9112 §3.2): give them one."""
    heads = re.compile(rb"^([-A-Z\w]+ \S+ HTTP/1\.1\r\n)(?!(?:.+\r\n)*host:)", re.I | re.M)
    return heads.sub(rb"\1Host: a\r\n", data)


def serve(data: bytes, step: int) -> tuple[list[str], str | None, list[bytes]]:
    """Requests, the error if any, and what ends bodies, of reads of `step` bytes."""
    codec = ServerCodec(CodecLimits(), False)
    seen: list[str] = []
    ends: list[bytes] = []
    try:
        for at in range(0, len(data), step):
            event = codec.receive(data[at : at + step])
            while event is not None:
                if isinstance(event, Request):
                    seen.append(f"{event.method} {event.path} {event.query}")
                if isinstance(event, Body) and event.end:
                    ends.append(codec.chunked_end(event, some_ticket()))
                if not codec.request_complete:
                    break
                if codec.start_next() is None:
                    return seen, None, ends
                event = codec.next_event()
    except CodecError as error:
        return seen, str(error), ends
    return seen, None, ends


def vectors(kind: str) -> list[Path]:
    """The files of a folder."""
    return sorted((FOLDER / kind).glob("*.http"))


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
@pytest.mark.parametrize("path", vectors("valid"), ids=lambda p: p.stem)
def test_valid(path: Path, step: int) -> None:
    seen, error, _ = serve(with_host(bytes_of(path)), step)
    if path.stem in STRICTER:
        assert error is not None
        assert STRICTER[path.stem] in error
    else:
        assert error is None
        assert seen


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
@pytest.mark.parametrize("path", vectors("invalid"), ids=lambda p: p.stem)
def test_invalid(path: Path, step: int) -> None:
    _, error, ends = serve(bytes_of(path), step)
    if path.stem in LAXER or path.stem in CUT_OFF:
        assert error is None
    else:
        assert error is not None
    assert all(end == b"0\r\n\r\n" for end in ends)


def test_the_tables_name_vectors() -> None:
    valid = {path.stem for path in vectors("valid")}
    invalid = {path.stem for path in vectors("invalid")}
    assert len(valid) + len(invalid) == 143
    assert set(STRICTER) <= valid
    assert set(LAXER) | CUT_OFF <= invalid
