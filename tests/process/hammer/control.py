"""Control without sockets: it changes what workers have in force, and looks at what they count."""

from __future__ import annotations

import json
import random
import re
import select
from pathlib import Path
from typing import Any, Final

from meshcore._core import Engine, Segment, now_ns
from meshcore.errors import ConfigError
from tests.process.hammer.crowd import START_S, Crowd, Life
from tests.process.hammer.ledger import Ledger
from tests.process.hammer.worker import ROUTES, SILENT, begun, finished

WORKERS: Final = 4
SLOTS: Final = WORKERS + 2
SEGMENT_BYTES: Final = 4 << 20
CAP: Final = 12
"""Most requests in flight at an upstream."""

ALWAYS: Final = 0
RETURNING: Final = range(2, 8)
"""Routes that go and come back under the same name; later numbers never do."""

GAUGES: Final = (
    "meshcore_upstream_requests{",
    "meshcore_upstream_retries{",
    "meshcore_endpoint_requests{",
    "meshcore_listener_connections{",
)
_ROUTE: Final = re.compile(r'meshcore_route_(?:responses|cancelled)_total\{route="[a-z]+-(\d+)"')


def name(route: int) -> str:
    """A route's name."""
    return f"back-{route}" if route in RETURNING else f"r-{route}"


class Configurations:
    """Names come and go."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._next = RETURNING.stop
        self.routes = [ALWAYS, SILENT]
        self.upstreams = {"u-0": [1]}

    def another(self) -> Configurations:
        """What comes after this one."""
        dice, new = self._dice, Configurations(self._dice)
        new._next = min(self._next + dice.randrange(5), ROUTES)
        kept = [n for n in self.routes if n >= RETURNING.stop and dice.random() < 0.7]
        back = [n for n in RETURNING if dice.random() < 0.5]
        new.routes = [ALWAYS, SILENT, *back, *kept, *range(self._next, new._next)]
        for n in range(dice.randrange(1, 4)):
            new.upstreams[f"u-{n}"] = dice.sample(range(1, 30), dice.randrange(1, 6))
        return new

    def delta(self, version: int, old: Configurations | None) -> str:
        """The change from another, or from none."""
        gone = sorted(set(old.upstreams) - set(self.upstreams)) if old is not None else []
        return json.dumps(
            {
                "config_version": version,
                "listeners": {"edge": {}},
                "upstreams": {n: self._upstream(ports) for n, ports in self.upstreams.items()},
                "hosts": {"*": [self._route(n) for n in self.routes]},
                "remove": {"upstreams": gone},
            }
        )

    @staticmethod
    def _upstream(ports: list[int]) -> dict[str, Any]:
        endpoints = [{"address": f"127.0.0.1:{port}", "weight": 1} for port in ports]
        return {"endpoints": endpoints, "max_requests": CAP, "retry_budget_percent": 50}

    def _route(self, route: int) -> dict[str, Any]:
        upstream = sorted(self.upstreams)[route % len(self.upstreams)]
        rate = {"tokens": 100_000, "period_ns": 1_000_000_000, "burst": 100_000}
        return {
            "name": name(route),
            "path": {"prefix": f"/{route}"},
            "action": {"forward": {"upstream": upstream}},
            "layers": [{"limit": {"rate": rate}}, {"in_flight": {"max": CAP}}],
        }


class Control:
    """Gives orders to a crowd of workers."""

    def __init__(self, ledger: Path, dice: random.Random) -> None:
        self.segment = Segment.create(max_bytes=SEGMENT_BYTES, worker_slots=SLOTS, seed=1)
        self.engine = Engine.control(self.segment, seed=1)
        self.ledger = Ledger(ledger, 2 * ROUTES)
        self.changes = self.aborted = self.full = 0
        self._path = ledger
        self._dice = dice
        self._now = Configurations(dice)
        self._slots: dict[int, int] = {}
        self._last: dict[str, float] = {}
        self.engine.apply(self._now.delta(1, None).encode())
        fd = self.segment.fileno()
        module = "tests.process.hammer.worker"
        self.crowd = Crowd(
            lambda seat, _: (module, str(fd), str(ledger), str(seat)),
            WORKERS,
            pass_fds=[fd],
            on_start=self._started,
            on_end=self._ended,
        )

    def _started(self, life: Life) -> None:
        free = [n for n in range(SLOTS) if self.segment.worker(n).pid == 0]
        slot = self._slots[life.number] = self._dice.choice(free)
        self.segment.occupy(slot, life.process.pid, now_ns())
        whole = self._now.delta(self.engine.version, None)
        self._tell(life, {"do": "prepare", "slot": slot, "delta": whole})
        self._tell(life, {"do": "commit", "routes": self._now.routes})
        self._tell(life, {"do": "report"})

    def _ended(self, life: Life) -> None:
        self.segment.clear(self._slots[life.number])

    @staticmethod
    def _tell(life: Life, order: dict[str, Any]) -> None:
        assert life.process.stdin is not None
        life.process.stdin.write(json.dumps(order).encode() + b"\n")
        life.process.stdin.flush()

    @staticmethod
    def _heard(life: Life, what: str) -> None:
        out = life.process.stdout
        assert out is not None
        said = b""
        while not said.startswith(what.encode()):
            assert select.select([out], [], [], START_S)[0], f"{what}: worker is silent"
            said = out.readline()
            assert said, f"{what}: worker {life.number} ended by itself"

    def _ask_all(self, order: dict[str, Any], what: str) -> None:
        """Tell all; one may be killed before it answers, and its place stays empty for now."""
        for life in self.crowd.present.values():
            self._tell(life, order)
        if self._dice.random() < 0.1:
            self.crowd.kill(self._dice.choice(list(self.crowd.present.values())))
        for life in list(self.crowd.present.values()):
            self._heard(life, what)

    def change(self) -> None:
        """Two steps, as in a transaction; now and then given up after the first."""
        version = self.engine.version + 1
        for life in self.crowd.present.values():
            self._heard(life, f"report {version - 1}")  # nobody is starting
        new = self._now.another()
        delta = new.delta(version, self._now)
        try:
            prepared = self.engine.prepare(delta.encode())
        except ConfigError as error:
            if "shared memory is full" not in str(error):
                raise
            self.full += 1
        else:
            self._ask_all({"do": "prepare", "delta": delta}, f"prepare {version - 1}")
            if self._dice.random() < 0.8:
                self.engine.commit(prepared)
                self._now = new
                self.changes += 1
            else:
                self.aborted += 1
        self._settle(version)

    def _settle(self, version: int) -> None:
        committed = self.engine.version == version
        order = {"do": "commit" if committed else "abort", "routes": self._now.routes}
        for life in self.crowd.present.values():
            self._tell(life, order)
            self._tell(life, {"do": "report"})
        for seat in set(range(WORKERS)) - set(self.crowd.present):
            self.crowd.start(seat)

    # --- what is counted ----------------------------------------------------------------------

    def metrics(self) -> dict[str, float]:
        """Every sample."""
        text = self.engine.metrics("")[0].decode()
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        return {key: float(value) for key, _, value in (line.rpartition(" ") for line in lines)}

    def look(self) -> None:
        """Each route has counted what was asked of it, no more; and no count has gone down."""
        least = {n: self.ledger.sum(finished(n)) for n in self._now.routes}
        found = self.metrics()
        most = {n: self.ledger.sum(begun(n)) for n in self._now.routes}
        counted = dict.fromkeys(self._now.routes, 0.0)
        for key, value in found.items():
            if route := _ROUTE.match(key):
                counted[int(route[1])] += value
            if key.startswith("meshcore_upstream_requests"):
                assert value <= CAP + WORKERS - 1, key
            if "_total" in key and '"back-' not in key:
                assert value >= self._last.get(key, 0.0), f"{key} went down"
        for n, value in counted.items():
            assert value <= most[n], f"{name(n)} counted what is not its own"
            if n not in RETURNING:
                assert value >= least[n], f"{name(n)} has lost counts"
        assert counted[SILENT] == 0
        self._last = found
