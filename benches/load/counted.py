"""A proxy of one process that counts calls: from SIGUSR1 on, until it comes again.

`python -m benches.load.counted mesh.yaml counts.json`; started by `benches.load.profile`.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import uvloop

import meshcore

CORE = "meshcore._core"


class Counted:
    """Calls of functions of Python, and of the core, by their names."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._calls: Counter[str] = Counter()
        self._on = False

    def _called(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            self._calls[f"python {frame.f_code.co_qualname}"] += 1
        elif event == "c_call":
            owner = getattr(argument, "__self__", None)
            if (getattr(argument, "__module__", None) or type(owner).__module__) == CORE:
                self._calls[f"core {argument.__qualname__}"] += 1

    def turn(self) -> None:
        """Begin; or end, and write what was counted."""
        self._on = not self._on
        if self._on:
            sys.setprofile(self._called)
            return
        sys.setprofile(None)
        made = self._file.with_suffix(".part")
        made.write_text(json.dumps(self._calls))
        made.rename(self._file)


async def _serve(file: str, counts: Counted) -> None:
    async with meshcore.Proxy(meshcore.load_file(file)):
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, counts.turn)
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1], Counted(Path(sys.argv[2]))))
