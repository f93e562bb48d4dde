"""`meshcore demo`: a mesh with services and clients, and what they see of it, live."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import socket
from importlib.resources import files
from itertools import cycle
from typing import Final
from urllib.parse import urlsplit

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from meshcore.config.load import load_text
from meshcore.demo.screen import Screen
from meshcore.demo.services import Behaviour, serve
from meshcore.demo.visitor import Visitor
from meshcore.process.proxy import Proxy

# How long the slow service is well, and then slower than the route's timeout.
PHASES_S: Final = (3.0, 3.0)
SLOW_S: Final = 1.0
REFRESH_S: Final = 0.25
# Without a terminal the table is printed this often.
PRINT_S: Final = 2.0


def free_or(port: int) -> int:
    """The port if it is free, else 0: any."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port


class Demo:
    """The services, the mesh before them, and the clients."""

    def __init__(self) -> None:
        self.echo = [Behaviour("echo-1"), Behaviour("echo-2"), Behaviour("echo-3", fail_one_in=5)]
        self.slow = Behaviour("slow")
        self.visitors = [
            Visitor("polite", "127.0.0.2", "/echo", 8),
            Visitor("greedy", "127.0.0.3", "/echo", 100),
            Visitor("patient", "127.0.0.4", "/slow", 10),
        ]
        self.screen = Screen()

    async def start(self, stack: contextlib.AsyncExitStack) -> None:
        """Start everything; `stack` ends it."""
        text = files("meshcore.demo").joinpath("mesh.yaml").read_text()
        for i, behaviour in enumerate([*self.echo, self.slow]):
            server, port = await serve(behaviour)
            stack.callback(server.close)
            text = text.replace(f"127.0.0.1:{9001 + i}", f"127.0.0.1:{port}")
        for port in (8080, 9900):
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{free_or(port)}")
        self.proxy = await stack.enter_async_context(Proxy(load_text(text)))
        self.url = self.proxy.addresses["edge"]
        at = urlsplit(self.url)
        assert at.hostname is not None
        assert at.port is not None
        work = [visitor.visit(at.hostname, at.port) for visitor in self.visitors]
        for coroutine in (*work, self._change_the_weather()):
            task = asyncio.create_task(coroutine)
            stack.push_async_callback(_ended, task)

    async def _change_the_weather(self) -> None:
        for seconds, delay in cycle(zip(PHASES_S, (0.0, SLOW_S), strict=True)):
            self.slow.delay_s = delay
            await asyncio.sleep(seconds)

    def picture(self) -> Group:
        """What clients were told and what the mesh says of itself, now."""
        metrics = self.proxy.metrics()[0].decode()
        return self.screen.picture(
            self.visitors,
            [*self.echo, self.slow],
            _metric(metrics, r'meshcore_breaker_state{.*route="slow".*}'),
            _metric(metrics, r'meshcore_route_retries_total{route="echo"}'),
        )

    def addresses(self) -> Text:
        """Where to ask by hand, while it runs."""
        admin = self.proxy.admin_address
        return Text(f"try: curl -i {self.url}/echo    metrics: curl {admin}/metrics")


def _metric(text: str, pattern: str) -> int:
    found = re.search(rf"^{pattern} (\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else 0


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def show(demo: Demo, console: Console, ended: asyncio.Event) -> None:
    """Draw until it is over; without a terminal, print now and then."""
    with contextlib.ExitStack() as stack:
        live = None
        if console.is_terminal:
            live = stack.enter_context(Live(demo.picture(), console=console, auto_refresh=False))
        drawn = 0
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), REFRESH_S)
            picture = demo.picture()
            drawn += 1
            if live is not None:
                live.update(picture, refresh=True)
            elif drawn % int(PRINT_S / REFRESH_S) == 0 or ended.is_set():
                console.print(picture)


NEXT: Final = """\
Next: write a mesh.yaml (docs/configuration.md has every key, the demo's own is
named below), then meshcore check mesh.yaml and meshcore run mesh.yaml."""


async def main(seconds: float | None = None) -> None:
    """Run until Ctrl-C or SIGTERM, or for ``seconds``; then say what to try next."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    if seconds is not None:
        loop.call_later(seconds, ended.set)
    console = Console()
    demo = Demo()
    async with contextlib.AsyncExitStack() as stack:
        await demo.start(stack)
        console.print(demo.addresses())
        await show(demo, console, ended)
    console.print(Text(NEXT))
    console.print(Text(str(files("meshcore.demo").joinpath("mesh.yaml"))), soft_wrap=True)
