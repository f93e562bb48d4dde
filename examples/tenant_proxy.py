"""A proxy of one's own with a layer in Python, before a small service, asked once.

Run it: ``python examples/tenant_proxy.py``. The layer puts the tenant of the host name into a
header, and answers itself when there is none.
"""

import asyncio

import meshcore

MESH = """
version: 1
listeners:
  edge:
    bind: 127.0.0.1:0
    layers:
      - python: tenants:AddTenant
routes:
  - name: all
    upstream: service
upstreams:
  service:
    endpoints: [127.0.0.1:{port}]
"""


class AddTenant(meshcore.Layer):
    def on_request(self, request: meshcore.Request) -> meshcore.Answer | None:
        tenant, dot, _ = request.host.partition(".")
        if not dot:
            return meshcore.Answer(400, [("content-type", "text/plain")], b"which tenant?\n")
        request.set_header("x-tenant", tenant)
        return None


async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    tenant = next(x for x in head.split("\r\n") if x.startswith("x-tenant: "))
    body = f"hello, {tenant[10:]}\n".encode()
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
    await writer.drain()
    writer.close()


async def ask(url: str, host: str) -> str:
    address, port = url.removeprefix("http://").rsplit(":", 1)
    reader, writer = await asyncio.open_connection(address, int(port))
    writer.write(f"GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    return f"{answer.split()[1]} {answer.rpartition(chr(10) * 2)[2].splitlines()[-1]}"


async def main() -> None:
    server = await asyncio.start_server(service, "127.0.0.1", 0)
    config = meshcore.load_text(MESH.format(port=server.sockets[0].getsockname()[1]))
    async with meshcore.Proxy(config, layers={"tenants:AddTenant": AddTenant()}) as proxy:
        print(await ask(proxy.addresses["edge"], "acme.example.com"))
        print(await ask(proxy.addresses["edge"], "localhost"))
    server.close()


asyncio.run(main())
