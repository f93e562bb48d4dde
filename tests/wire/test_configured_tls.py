"""TLS of a configuration, spoken: which certificate, which version, whose client."""

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

import meshcore

CONFIG = """
version: 1
drain: 1s
listeners:
  edge:
    bind: 127.0.0.1:0
    tls:
      cert: edge.pem
      key: edge.key
      {extra}
      sni:
        "*.other.example": {{cert: other.pem, key: other.key}}
routes: [{{name: hello, respond: {{body: hello}}}}]
"""


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name, host in (("edge", "edge.example"), ("other", "*.other.example")):
        pair = ca.issue_cert(host)
        pair.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        pair.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
    return ca


def proxy_of(folder: Path, extra: str = "") -> meshcore.Proxy:
    file = folder / "mesh.yaml"
    file.write_text(CONFIG.format(extra=extra))
    return meshcore.Proxy(meshcore.load_file(file))


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def ask(proxy: meshcore.Proxy, name: str, context: ssl.SSLContext) -> tuple[str, str]:
    """The name in the certificate and the body."""
    host, port = proxy.addresses["edge"].removeprefix("https://").split(":")
    reader, writer = await asyncio.open_connection(
        host, int(port), ssl=context, server_hostname=name
    )
    try:
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        answer = await reader.read()
        found = writer.get_extra_info("peercert")["subjectAltName"][0][1]
        return found, answer.partition(b"\r\n\r\n")[2].decode()
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("name", "certificate"),
    [("edge.example", "edge.example"), ("a.other.example", "*.other.example")],
)
async def test_a_certificate_is_chosen_by_name(
    tmp_path: Path, authority: trustme.CA, name: str, certificate: str
) -> None:
    async with proxy_of(tmp_path) as proxy:
        assert await ask(proxy, name, trusting(authority)) == (certificate, "hello")


async def test_an_old_version_is_refused(tmp_path: Path, authority: trustme.CA) -> None:
    old = trusting(authority)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with proxy_of(tmp_path) as proxy:
        assert (await ask(proxy, "edge.example", old))[1] == "hello"
    async with proxy_of(tmp_path, 'min_version: "1.3"') as proxy:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await ask(proxy, "edge.example", old)


@pytest.mark.parametrize("name", ["edge.example", "a.other.example"])
async def test_clients_show_a_certificate_of_the_ca(
    tmp_path: Path, authority: trustme.CA, name: str
) -> None:
    known, unknown = trusting(authority), trusting(authority)
    authority.issue_cert("client@example.com").configure_cert(known)
    for context in (known, unknown):
        # With 1.2 the refusal is part of the handshake.
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with proxy_of(tmp_path, "client_ca: ca.pem") as proxy:
        assert (await ask(proxy, name, known))[1] == "hello"
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await ask(proxy, name, unknown)
