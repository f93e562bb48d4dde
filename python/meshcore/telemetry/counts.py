"""What Python counts itself, in the shared memory beside what the core counts."""

from __future__ import annotations

import enum
from typing import Any, Final, NamedTuple


class Count(NamedTuple):
    """A family of counters; its name ends in ``_total``."""

    name: str
    help: str


class UpstreamCount(enum.IntEnum):
    """Places in the list of counts that each upstream has."""

    CONNECTED = 0
    NOT_CONNECTED = 1
    WAITED = 2
    NO_PLACE = 3


class ProgramCount(enum.IntEnum):
    """Places in the list of counts of the program."""

    LOG_LINES_DROPPED = 0


OF_UPSTREAM: Final = {
    UpstreamCount.CONNECTED: Count(
        "meshcore_upstream_connections_total",
        "Connections made to endpoints and ready for requests.",
    ),
    UpstreamCount.NOT_CONNECTED: Count(
        "meshcore_upstream_connect_failures_total",
        "Attempts to connect to endpoints that failed or took too long.",
    ),
    UpstreamCount.WAITED: Count(
        "meshcore_upstream_waits_total",
        "Attempts for which no connection was there at once.",
    ),
    UpstreamCount.NO_PLACE: Count(
        "meshcore_upstream_waits_refused_total",
        "Attempts that were refused since too many waited.",
    ),
}
OF_PROGRAM: Final = {
    ProgramCount.LOG_LINES_DROPPED: Count(
        "meshcore_access_log_dropped_total",
        "Lines of the access log that were not written.",
    ),
}


def for_core() -> dict[str, list[dict[str, Any]]]:
    """`Counts` of ``rust/meshcore-core/src/snapshot``."""
    return {
        "upstream": [OF_UPSTREAM[place]._asdict() for place in UpstreamCount],
        "program": [OF_PROGRAM[place]._asdict() for place in ProgramCount],
    }
