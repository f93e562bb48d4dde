"""A client that asks at a steady rate from an address of its own, and counts what it is told."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

# One request may take this long before it counts as lost.
PATIENCE_S = 5.0


@dataclass
class Visitor:
    """Asks for one path; `told` counts status and reason, `replicas` who answered."""

    name: str
    source: str
    path: str
    per_second: float
    told: Counter[str] = field(default_factory=Counter)
    replicas: Counter[str] = field(default_factory=Counter)

    async def visit(self, host: str, port: int) -> None:
        """Ask until cancelled, on a new connection whenever the last one is gone."""
        while True:
            try:
                reader, writer = await asyncio.open_connection(
                    host, port, local_addr=(self.source, 0)
                )
            except OSError:
                self.told["no connection"] += 1
                await asyncio.sleep(1 / self.per_second)
                continue
            try:
                while await self._ask(reader, writer):
                    pass
            except (OSError, EOFError, TimeoutError):
                self.told["lost"] += 1
            finally:
                writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(f"GET {self.path} HTTP/1.1\r\nhost: demo.test\r\n\r\n".encode())
        async with asyncio.timeout(PATIENCE_S):
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            fields = dict(line.lower().split(": ", 1) for line in lines[1:-2])
            await reader.readexactly(int(fields.get("content-length", 0)))
        reason = fields.get("x-mesh-reason")
        self.told[f"{lines[0].split()[1]} {reason}" if reason else lines[0].split()[1]] += 1
        if "x-replica" in fields:
            self.replicas[fields["x-replica"]] += 1
        await asyncio.sleep(1 / self.per_second)
        return fields.get("connection") != "close"
