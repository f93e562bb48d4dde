"""A name with an ECDSA and an RSA certificate: each client is shown the one that it can verify."""

from __future__ import annotations

import asyncio
import datetime
import logging
import ssl
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from meshcore import Proxy
from meshcore.config.load import load_text
from tests.wire.conftest import Run, Serve, eventually, metric, trusting
from tests.wire.h2_mesh import Mesh
from tests.wire.test_tls_told import FAILED
from tests.wire.tls_streams import shaken

ECDSA, RSA = trustme.KeyType.ECDSA, trustme.KeyType.RSA
# By server name: the listener's own, one of its names, and one under a wildcard.
NAMES = {"": "first.test", "b.test": "b.test", "x.c.test": "*.c.test"}
NOT_AFTER = "meshcore_certificate_not_after_seconds"
REFUSED = "handshake failure"


class Authority:
    """Who signs certificates of both kinds."""

    def __init__(self, folder: Path) -> None:
        self._ca, self._folder = trustme.CA(), folder
        self.file = str(folder / "ca.pem")
        self._ca.cert_pem.write_to_path(self.file)

    def pair(self, kind: trustme.KeyType, *hosts: str, is_expired: bool = False) -> dict[str, Any]:
        """A certificate for hosts, and its key."""
        now = datetime.datetime.now(datetime.UTC)
        day = datetime.timedelta(days=1)
        ends = now - day if is_expired else now + 90 * day
        made = self._ca.issue_cert(*hosts, key_type=kind, not_before=now - 90 * day, not_after=ends)
        stem = f"{hosts[0].replace('*', 'any')}-{kind.name}"
        cert, key = self._folder / f"{stem}.pem", self._folder / f"{stem}.key"
        made.cert_chain_pems[0].write_to_path(cert)
        made.private_key_pem.write_to_path(key)
        return {"cert": str(cert), "key": str(key)}

    def both(self, *hosts: str) -> dict[str, Any]:
        """One of each kind; whichever stands first."""
        first, second = (RSA, ECDSA) if len(hosts[0]) % 2 else (ECDSA, RSA)
        return self.pair(first, *hosts) | {"certificates": [self.pair(second, *hosts)]}

    def client(self, known: bool = False) -> ssl.SSLContext:
        """What a client believes; and, if it is known, shows."""
        context = trusting(self._ca)
        if known:
            self._ca.issue_cert("client@a.test").configure_cert(context)
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("kinds"))


@pytest.fixture(scope="module")
def everywhere(authority: Authority) -> dict[str, Any]:
    """The `tls` of a listener with both kinds for each of `NAMES`."""
    first, *named = (authority.both(host) for host in NAMES.values())
    return first | {"sni": dict(zip(list(NAMES.values())[1:], named, strict=True))}


def mesh(tls: dict[str, Any]) -> str:
    return str(Mesh("native", 1).listen(tls=tls))


class Shown(NamedTuple):
    """What `openssl s_client` says of a handshake."""

    kind: trustme.KeyType
    host: str
    version: str
    ocsp: str | None = None


async def shown(proxy: Proxy, host: str, *said: str) -> Shown | str:
    """Which certificate a client is shown, or the alert that it gets."""
    at = urlsplit(proxy.addresses["edge"])
    name = ("-servername", host) if host else ("-noservername",)
    client = await asyncio.create_subprocess_exec(
        *("openssl", "s_client", "-connect", at.netloc, *name, *said),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = (text.decode() for text in await client.communicate())
    if "SSL alert number" in err:
        return err.partition(" alert ")[2].partition(":")[0]
    mark = "-----BEGIN CERTIFICATE-----"
    status = out.partition("Cert Status: ")[2].partition("\n")[0] or None
    version = out.partition("New, TLSv")[2].partition(",")[0]
    return seen(mark.encode() + out.partition(mark)[2].encode(), version, status)


def seen(pem: bytes, version: str, status: str | None = None) -> Shown:
    """Of which kind a certificate's key is, and of whom it is."""
    read = x509.load_pem_x509_certificate(pem)
    names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    kind = RSA if isinstance(read.public_key(), rsa.RSAPublicKey) else ECDSA
    return Shown(kind, names.get_values_for_type(x509.DNSName)[0], version, status)


V2, V3 = ("-tls1_2",), ("-tls1_3",)
P256, P384, PSS = "ecdsa_secp256r1_sha256", "ecdsa_secp384r1_sha384", "rsa_pss_rsae_sha256"
WITH_ECDSA, WITH_RSA = (f"ECDHE-{kind}-AES128-GCM-SHA256" for kind in ("ECDSA", "RSA"))


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (V2, ECDSA),
        (V3, ECDSA),
        ((*V3, "-sigalgs", P256), ECDSA),
        ((*V3, "-sigalgs", f"{PSS}:{P256}"), ECDSA),
        ((*V3, "-sigalgs", PSS), RSA),
        ((*V3, "-sigalgs", f"{P384}:{PSS}"), RSA),  # the key is on another curve
        ((*V3, "-sigalgs", "ed25519"), None),
        ((*V3, "-sigalgs", "rsa_pkcs1_sha256"), None),  # of TLS 1.2 alone
        ((*V3, "-curves", "X25519"), ECDSA),
        ((*V2, "-curves", "X25519"), RSA),  # RFC 8422 §5.1
        ((*V2, "-cipher", WITH_ECDSA), ECDSA),
        ((*V2, "-cipher", WITH_RSA), RSA),
        ((*V2, "-cipher", f"{WITH_RSA}:{WITH_ECDSA}"), ECDSA),
        ((*V2, "-sigalgs", "RSA+SHA256"), RSA),
        ((*V2, "-sigalgs", "ECDSA+SHA256:RSA+SHA256", "-cipher", WITH_RSA), RSA),
        ((*V2, "-cipher", "ECDHE-ECDSA-AES128-SHA"), None),
    ],
)
def test_a_client_is_shown_what_it_can_verify(
    run: Run,
    serve: Serve,
    everywhere: dict[str, Any],
    said: tuple[str, ...],
    kind: trustme.KeyType | None,
) -> None:
    async def go() -> None:
        async with serve(mesh(everywhere)) as proxy:
            for asked, host in NAMES.items():
                version = "1.3" if said[0] == "-tls1_3" else "1.2"
                wanted = REFUSED if kind is None else Shown(kind, host, version)
                assert await shown(proxy, asked, *said) == wanted

    run(go())


@pytest.mark.parametrize("said", [V2, V3])
def test_of_two_that_a_client_can_verify_it_is_shown_one_that_is_in_date(
    run: Run, serve: Serve, authority: Authority, said: tuple[str, ...]
) -> None:
    old, new = authority.pair(ECDSA, "d.test", is_expired=True), authority.pair(RSA, "d.test")
    also_old = authority.pair(RSA, "e.test", is_expired=True)
    other_old = authority.pair(ECDSA, "e.test", is_expired=True)
    both_old = also_old | {"certificates": [other_old]}

    async def go() -> None:
        tls = old | {"certificates": [new], "sni": {"e.test": both_old}}
        async with serve(mesh(tls)) as proxy:
            assert (await shown(proxy, "", *said))[0] is RSA
            alone = ("-sigalgs", P256)
            assert (await shown(proxy, "", *said, *alone))[0] is ECDSA  # it verifies no other
            assert (await shown(proxy, "e.test", *said))[0] is ECDSA

    run(go())


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ((*V3, "-sigalgs", PSS), "it knows no signature of those that fit the certificate"),
        ((*V2, "-cipher", WITH_RSA), "it knows no suite of those that are used here"),
    ],
)
def test_the_log_says_that_a_name_has_keys_of_one_kind_alone(
    run: Run,
    serve: Serve,
    authority: Authority,
    caplog: pytest.LogCaptureFixture,
    said: tuple[str, ...],
    told: str,
) -> None:
    """And it is counted by its alert in both versions."""
    tls = authority.pair(ECDSA, "x.w.test") | {"sni": {"*.w.test": authority.both("*.w.test")}}

    async def go() -> None:
        async with serve(mesh(tls)) as proxy:
            assert await shown(proxy, "", *said) == REFUSED
            await eventually(lambda: metric(proxy, FAILED, reason="handshake_failure") == 1)
            assert (await shown(proxy, "y.w.test", *said))[0] is RSA

    with caplog.at_level(logging.INFO, "meshcore.tls"):
        run(go())
    (line,) = caplog.messages
    assert f"{told}: the name that it asks for has a key of one kind alone, ECDSA" in line
    assert "(told handshake_failure)" in line


@pytest.mark.parametrize(
    "said",
    [
        (*V2, "-cipher", "ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA"),
        (*V3, "-ciphersuites", "TLS_AES_128_CCM_SHA256"),
        # It speaks TLS 1.3, whose suites go with every kind: that of TLS 1.2 does not count.
        ("-ciphersuites", "TLS_AES_128_CCM_SHA256", "-cipher", WITH_RSA),
    ],
    ids=["CBC", "CCM", "CCM and of TLS 1.2"],
)
def test_who_has_no_suite_of_ours_is_not_told_of_kinds(
    run: Run,
    serve: Serve,
    authority: Authority,
    caplog: pytest.LogCaptureFixture,
    said: tuple[str, ...],
) -> None:
    async def go() -> None:
        async with serve(mesh(authority.pair(ECDSA, "x.w.test"))) as proxy:
            assert await shown(proxy, "", *said) == REFUSED
            await eventually(lambda: bool(caplog.messages))

    with caplog.at_level(logging.INFO, "meshcore.tls"):
        run(go())
    (line,) = caplog.messages
    assert "it knows no suite of those that are used here (told handshake_failure)" in line


def of_1_2(context: ssl.SSLContext, *suites: str) -> ssl.SSLContext:
    """A client whose suites say which kind it can verify, and whose session is there at once."""
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    if suites:
        context.set_ciphers(":".join(suites))
    return context


@pytest.mark.parametrize("suite", [WITH_ECDSA, WITH_RSA])
def test_who_asks_for_a_name_comes_in_by_its_rule_whichever_is_shown(
    run: Run, serve: Serve, authority: Authority, everywhere: dict[str, Any], suite: str
) -> None:
    """Also who has a ticket of another name, or of the same that let everybody in."""
    open_to_all = everywhere["sni"]["b.test"]
    sni = everywhere["sni"] | {"b.test": open_to_all | {"client_ca": authority.file}}

    async def go() -> None:
        async with serve(mesh(everywhere)) as proxy:
            url, stranger = proxy.addresses["edge"], of_1_2(authority.client(), suite)
            sessions = [
                (await shaken(url, stranger, x, None)).session for x in ("b.test", "x.c.test")
            ]
            assert (await shaken(url, stranger, "b.test", sessions[0])).resumed
            await proxy.reload(load_text(mesh(everywhere | {"sni": sni})))
            url = proxy.addresses["edge"]
            for session in (None, *sessions):
                with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
                    await shaken(url, stranger, "b.test", session)
            assert (await shaken(url, stranger, "x.c.test", sessions[1])).resumed
            known = of_1_2(authority.client(known=True), suite)
            session = (await shaken(url, known, "b.test", None)).session
            assert (await shaken(url, known, "b.test", session)).resumed

    run(go())


@pytest.mark.parametrize("said", [V2, V3])
def test_a_reload_gives_and_takes_a_kind(
    run: Run, serve: Serve, authority: Authority, everywhere: dict[str, Any], said: tuple[str, ...]
) -> None:
    """A session of TLS 1.2 has a suite, which may be of the kind that is gone (RFC 5246 §7.3)."""
    both = {key: everywhere[key] for key in ("cert", "key", "certificates")}
    only = next(x for x in (both, *both["certificates"]) if RSA.name in x["cert"])
    alone = {key: only[key] for key in ("cert", "key")}

    async def go() -> None:
        async with serve(mesh(alone)) as proxy:
            url, context = proxy.addresses["edge"], of_1_2(authority.client())
            assert (await shown(proxy, "", *said))[0] is RSA
            await proxy.reload(load_text(mesh(both)))
            assert (await shown(proxy, "", *said))[0] is ECDSA
            session = (await shaken(url, context, "first.test", None)).session
            assert (await shaken(url, context, "first.test", session)).resumed
            await proxy.reload(load_text(mesh(alone)))
            assert (await shown(proxy, "", *said))[0] is RSA
            assert not (await shaken(url, context, "first.test", session)).resumed

    run(go())


def test_each_is_told_until_when_it_is_valid(
    run: Run, serve: Serve, everywhere: dict[str, Any]
) -> None:
    async def go() -> None:
        async with serve(mesh(everywhere)) as proxy:
            for name in ("", *everywhere["sni"]):
                for key in ("ECDSA", "RSA"):
                    assert metric(proxy, NOT_AFTER, listener="edge", server_name=name, key=key)

    run(go())
