"""Where an exchange stands, and why a side of it is not read."""

from __future__ import annotations

from typing import Final

from meshcore._core import Phase

# Plain integers: comparing enumerations costs three times as much.
HEAD: Final = int(Phase.HEAD)
LAYERS: Final = int(Phase.LAYERS)
WAITING: Final = int(Phase.WAITING)
ASKED: Final = int(Phase.ASKED)
LOOKING: Final = int(Phase.LOOKING)
ANSWERING: Final = int(Phase.ANSWERING)
TUNNEL: Final = int(Phase.TUNNEL)
OVER: Final = int(Phase.OVER)

# Why a side is not read: bits of a set.
FULL: Final = 1
"""The other side takes no more."""
UNTAKEN: Final = 2
"""It is not taken yet, and as much is kept as may be."""
LOOKED_AT: Final = 4
"""A layer looks at the response's head."""
ENDED: Final = 8
"""It has said all; its tunnel goes on the other way."""
HOOKED: Final = 16
"""A layer has a piece of its body."""
