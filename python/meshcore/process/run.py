"""A proxy as a program: until a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
from typing import TYPE_CHECKING

import uvloop

from meshcore.process.proxy import Proxy

if TYPE_CHECKING:
    from meshcore.config.model import Config

log = logging.getLogger("meshcore")


def run_until_signalled(config: Config) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Raises `OSError` when an address cannot be had, `LayerError` for a layer that cannot be loaded
    and `ConfigError` for what only the core can see.
    """
    raise_descriptor_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(config))


def raise_descriptor_limit() -> None:
    """Allow as many open files as the system does: each request holds two sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):  # macOS has a lower ceiling than it reports
            log.warning("open files stay limited to %d", soft)


async def _serve(config: Config) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    # Before anything listens: a signal right after the first line must drain, not kill.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    proxy = Proxy(config)
    await proxy.start()
    for name, address in proxy.addresses.items():
        log.info("listening %s (%s)", address, name)
    if proxy.admin_address is not None:
        log.info("listening %s (admin)", proxy.admin_address)
    await ended.wait()
    log.info("draining")
    await proxy.stop()
