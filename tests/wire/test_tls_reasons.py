"""Why TLS is refused: the alert, and the words for it, on both sides."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.wire.conftest import Certificates, Run, Serve, eventually, metric
from tests.wire.either import asking, request
from tests.wire.h2_mesh import Mesh
from tests.wire.identities import Signer
from tests.wire.second_hello import Client
from tests.wire.test_identity import BOTH, alert, from_, logged, mesh, running
from tests.wire.test_tls_told import FAILED, met, secured, streams
from tests.wire.tls_streams import TlsStreams


@pytest.fixture
def signer(tmp_path: Path, certificates: Certificates) -> Signer:
    return Signer(tmp_path, "one", certificates)


@contextlib.contextmanager
def told(caplog: pytest.LogCaptureFixture) -> Any:
    """What is said of clients that are refused."""
    with caplog.at_level(logging.INFO, "meshcore.tls"):
        yield caplog


# --- what clients are told --------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_who_has_no_certificate_hears_an_alert_of_its_version(
    run: Run, serve: Serve, certificates: Certificates, version: str
) -> None:
    """RFC 5246 §7.4.6, RFC 8446 §4.4.2.4."""
    context = certificates.client("h2")
    context.maximum_version = ssl.TLSVersion.TLSv1_2 if version == "1.2" else ssl.TLSVersion.TLSv1_3
    says = "handshake_failure" if version == "1.2" else "certificate_required"

    async def go() -> None:
        async with (
            secured(serve, certificates, {"client_ca": certificates.ca}) as proxy,
            streams(proxy, context) as client,
        ):
            with pytest.raises(ssl.SSLError) as caught:
                await met(client)
            assert says in str(caught.value.reason).lower()
            await eventually(lambda: metric(proxy, FAILED, reason=says, by="proxy") == 1)

    run(go())


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_who_names_no_protocol_where_only_h2_is_spoken_hears_it(
    run: Run,
    serve: Serve,
    certificates: Certificates,
    caplog: pytest.LogCaptureFixture,
    version: str,
) -> None:
    context = certificates.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2 if version == "1.2" else ssl.TLSVersion.TLSv1_3

    async def go() -> None:
        protocols = {"http1": "off"}
        async with (
            secured(serve, certificates, protocols=protocols) as proxy,
            streams(proxy, context) as client,
        ):
            with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
                await met(client)
            no_alpn = {"reason": "no_application_protocol", "by": "proxy"}
            await eventually(lambda: metric(proxy, FAILED, **no_alpn) == 1)
            async with streams(proxy, certificates.client("h2")) as other:
                await other.shake()

    with told(caplog):
        run(go())
    assert "it names no protocol (ALPN), and HTTP/2 needs one (told no_app" in caplog.messages[0]


@pytest.mark.parametrize(("http1", "second"), [("off", ()), ("on", ()), ("on", (b"http/1.1",))])
def test_nor_behind_a_request_to_say_it_again(
    run: Run, serve: Serve, certificates: Certificates, http1: str, second: tuple[bytes, ...]
) -> None:
    """A first message that names `h2`, and one behind a HelloRetryRequest that names none."""

    async def go() -> None:
        protocols = {"http1": http1}
        async with secured(serve, certificates, protocols=protocols) as proxy:
            port = urlsplit(proxy.addresses["edge"]).port
            client = Client(*await asyncio.open_connection("127.0.0.1", port))
            answer = await client.ask(second, b"GET / HTTP/1.1\r\nhost: edge.test\r\n\r\n")
            no_alpn = {"reason": "no_application_protocol", "by": "proxy"}
            if http1 == "off":
                assert answer == b""
                await eventually(lambda: metric(proxy, FAILED, **no_alpn) == 1)
            else:
                assert answer.startswith(b"HTTP/1.1 ")
                assert metric(proxy, FAILED, **no_alpn) == 0

    run(go())


@pytest.mark.parametrize(
    ("name", "comes_in"),
    [
        (b"edge_1.test", True),
        (b"127.0.0.99.", False),
        (b"127.0.0.101", True),
        (b"a..test.abc", False),
        (b"a\xe2\x80\xae.test.", False),
    ],
)
def test_a_name_that_no_host_has_is_told_of(
    run: Run,
    serve: Serve,
    certificates: Certificates,
    caplog: pytest.LogCaptureFixture,
    name: bytes,
    comes_in: bool,
) -> None:
    """Whoever asks for an address gets the first certificate, as whoever asks for nobody."""

    async def go() -> None:
        async with secured(serve, certificates) as proxy:
            at = urlsplit(proxy.addresses["edge"])
            reader, writer = await asyncio.open_connection(at.hostname, at.port)
            context = certificates.client()
            context.check_hostname = False
            client = TlsStreams(reader, writer, context, server_name="x" * len(name))
            with contextlib.suppress(ssl.SSLWantReadError):
                client._tls.do_handshake()
            writer.write(client._said.read().replace(b"x" * len(name), name))
            answer = await reader.readexactly(7)
            # A handshake's record, or an alert: illegal_parameter.
            assert (answer[0] == 22) is comes_in
            if not comes_in:
                assert answer[-1] == 47
                await eventually(lambda: bool(caplog.messages))
            writer.close()

    with told(caplog):
        run(go())
    asked = repr(name.decode()).strip("'").encode().decode()
    if not comes_in:
        (line,) = [line for line in caplog.messages if "illegal_parameter" in line]
        assert f'it asks for "{asked.replace(chr(92) + "u202e", chr(92) + "u{202e}")}"' in line
        assert "which is no host's name" in line


@BOTH
def test_the_log_says_whose_certificate_was_refused(
    run: Run,
    certificates: Certificates,
    signer: Signer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    protocol: str,
) -> None:
    other = Signer(tmp_path, "two", certificates)
    strange = other.issue(subject="a\u202eb\u2028c" + 30 * "d")
    revoked = signer.issue("spiffe://one/web")
    auth = {"ca": signer.ca, "crl": signer.revoke(revoked)}

    async def go() -> None:
        async with running(mesh(certificates, auth, 1)) as proxy:
            assert "unknown_ca" in await alert(strange, proxy)
            assert "revoked" in await alert(revoked, proxy)
            with pytest.raises((ssl.SSLError, ConnectionError)):
                async with from_(strange, protocol, proxy) as ask:
                    await ask(request())
            await eventually(lambda: len(caplog.messages) == 3)

    with told(caplog):
        run(go())
    hidden = "\\E2\\80\\AE"
    lines = caplog.messages
    for line in (lines[0], lines[2]):
        assert "nobody who is believed has signed the certificate (it is of CN=a" in line
        assert f"CN=a{hidden}b" in line
        assert f", serial 0{strange.serial}, issued by CN=two)" in line
        assert line.isprintable()
    assert "the certificate was revoked (it is of spiffe://one/web, serial 0" in lines[1]


def test_what_is_not_seen_is_escaped_in_the_access_log(
    run: Run, certificates: Certificates, signer: Signer, capsys: pytest.CaptureFixture[str]
) -> None:
    who = signer.issue(subject="a\u202eb\u2028c")

    async def go() -> None:
        made = mesh(certificates, {"ca": signer.ca}, 1)
        made.route.pop("upstream")
        made.route["respond"] = {"body": "hi"}
        async with running(made) as proxy, from_(who, "http1", proxy) as ask:
            path = "/\u202e".encode().decode("latin-1")
            assert (await ask(request("GET", "/", ("referer", path)))).status == 200

    run(go())
    text = capsys.readouterr().out
    assert text.strip().isprintable()
    assert "CN=a" in text


# --- what endpoints show ----------------------------------------------------------------------


@BOTH
def test_the_log_says_whose_certificate_an_endpoint_shows(
    run: Run,
    certificates: Certificates,
    signer: Signer,
    capsys: pytest.CaptureFixture[str],
    protocol: str,
) -> None:
    who = signer.issue("dns:a.example")

    async def go() -> None:
        context = who.origin("h2" if protocol == "h2" else "http/1.1")
        server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        made = Mesh("native", port).to(protocol, tls={"ca": signer.ca, "server_name": "b.example"})
        made.via(retry="off")
        made.top["access_log"] = "json"
        async with running(made) as proxy, asking("http1", proxy.addresses["edge"]) as ask:
            assert (await ask(request())).status == 502
        server.close()

    run(go())
    (line,) = logged(capsys)
    assert line["reason"] == "upstream_connect"
    assert line["detail"] == (
        "the certificate is of a.example, and wanted is b.example "
        f"(it is of a.example, serial 0{who.serial}, issued by CN=one)"
    )
