"""Test one's own mesh, layers and clients, by a clock of the test's own.

`Mesh` asks the core that decides in the proxy what it would do with a request, without sockets.
`request`, `response` and `run` are for a layer alone. `StubService` is an HTTP/1.1 service that
answers what it is told; the fixture ``stub_service`` of pytest (`meshcore_pytest`) makes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.lazy import found_in

if TYPE_CHECKING:
    from meshcore.testing.clock import Clock
    from meshcore.testing.decision import Decision, RouteMatch, Sent
    from meshcore.testing.hooks import Changes, Ran, run, run_async
    from meshcore.testing.mesh import Mesh
    from meshcore.testing.messages import request, response
    from meshcore.testing.stub import Asked, Reply, StubService, StubServices

__all__ = [
    "Asked",
    "Changes",
    "Clock",
    "Decision",
    "Mesh",
    "Ran",
    "Reply",
    "RouteMatch",
    "Sent",
    "StubService",
    "StubServices",
    "request",
    "response",
    "run",
    "run_async",
]

_HOMES = {
    "Asked": "stub",
    "Changes": "hooks",
    "Clock": "clock",
    "Decision": "decision",
    "Mesh": "mesh",
    "Ran": "hooks",
    "Reply": "stub",
    "RouteMatch": "decision",
    "Sent": "decision",
    "StubService": "stub",
    "StubServices": "stub",
    "request": "messages",
    "response": "messages",
    "run": "hooks",
    "run_async": "hooks",
}

# Type checkers know the names above, and no others. Each part is imported when it is asked for: who
# wants a stub service alone needs no configuration.
if not TYPE_CHECKING:
    __getattr__ = found_in(__name__, {name: f"{__name__}.{home}" for name, home in _HOMES.items()})


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
