"""An upstream's connections as a group: the caps that its pools share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

    from meshcore.config.snapshot import UpstreamSpec


@dataclass(slots=True)
class Cluster:
    """One upstream, as this worker uses it."""

    spec: UpstreamSpec
    tls: ssl.SSLContext | None
    connections: int = 0
    pending: int = 0
