"""What a running program is to the outside: control, its admin port, the watch over its source."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from typing import TYPE_CHECKING, Final

from meshcore.admin.handlers import Handlers
from meshcore.admin.server import Admin, give_up
from meshcore.process.local_address import local_name
from meshcore.process.operations import Operations

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from meshcore.process.control import Control

log = logging.getLogger("meshcore")

# Watching may fail for want of descriptors or of the kernel's watches: both come back.
WATCH_AGAIN_S: Final = 10.0


class Service:
    """Control and what is built around it."""

    def __init__(
        self,
        control: Control,
        hand_over: Callable[[], Awaitable[int]],
        stop: Callable[[], None],
        reload: Callable[[], None],
    ) -> None:
        """``hand_over`` and ``stop`` are as of `Operations`; ``reload`` is called when the source
        has changed."""
        self.control = control
        self.operations = Operations(control, hand_over, stop)
        self.operations.on_change = self._changed
        self.admin = Admin(Handlers(self.operations, self.operations))
        self._reload = reload
        self._watcher: asyncio.Task[None] | None = None

    # --- the admin port -----------------------------------------------------------------------

    async def serve_admin(self, given: dict[str, socket.socket]) -> None:
        """On the configured port, and where the command line finds us without one; on the sockets
        that are ``given``, by address, where they are there."""
        spec = self.control.snapshot.admin
        if spec is not None:
            await self.admin.listen(spec, given.pop(spec.address, None))
        local = given.pop("local", None)
        give_up(given)
        if local is None and sys.platform == "linux":
            local = self._bind_local()
        if local is not None:
            await self.admin.listen_locally(local)

    def _bind_local(self) -> socket.socket | None:
        source = self.control.source
        local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            local.bind(local_name(source.identity))
        except OSError:
            local.close()
            log.warning("another program serves %s: it takes the orders", source.name)
            return None
        return local

    def _changed(self) -> None:
        self.admin.permit(self.control.snapshot.admin)
        self.watch()

    # --- the source ---------------------------------------------------------------------------

    def watch(self) -> None:
        """Begin or end watching, as the configuration in force says."""
        wanted = self.control.snapshot.watch
        if wanted and self._watcher is None:
            self._watcher = asyncio.get_running_loop().create_task(self.keep_watching())
        elif not wanted:
            self.end_watch()

    def end_watch(self) -> None:
        """Watch no longer."""
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None

    async def keep_watching(self) -> None:
        """Watch whatever happens, until cancelled."""
        source = self.control.source
        while True:
            try:
                await source.watch(self.control.in_force, self._reload)
            except Exception as error:
                log.error("cannot watch %s: %s; again soon", source.name, error)
                await asyncio.sleep(WATCH_AGAIN_S)
