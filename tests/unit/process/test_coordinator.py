"""One change after the other, in two steps: all or nothing, whatever refuses and whoever leaves."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from meshcore.admin.handlers import OperationRefusedError
from meshcore.config.compile import compile
from meshcore.config.load import load_text
from meshcore.errors import ConfigError, Diagnostic, SegmentFullError
from meshcore.process.coordinator import Coordinator
from meshcore.process.socket_groups import SocketGroups

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from meshcore.config.change import Change
    from meshcore.config.snapshot import Snapshot
    from meshcore.process.socket_groups import SocketGroup


def snapshot(version: int, *addresses: str, top: str = "") -> Snapshot:
    """Listeners `a`, `b`, ... by address, or by name at a port of their own."""
    binds = [each if "=" in each else f"{each}=127.0.0.1:0" for each in addresses]
    listeners = "".join(
        f"  {name}: {{bind: '{address}'}}\n" for name, address in (b.split("=") for b in binds)
    )
    text = (
        f"version: 1\n{top}listeners:\n{listeners}"
        "upstreams:\n  up: {endpoints: ['127.0.0.1:1']}\n"
        "routes:\n- {name: all, upstream: up}\n"
    )
    return compile(load_text(text), version)


class Staff:
    """`Workers` that note what they are told."""

    def __init__(self) -> None:
        self.snapshot = snapshot(1, "a")
        self.told: list[object] = []
        self.refusal: BaseException | None = None
        self.go_on = asyncio.Event()
        self.go_on.set()

    def reuseport_slots(self, new: Snapshot) -> int:
        if new.workers > 8:
            raise OperationRefusedError("no room")
        return 1

    async def prepare(self, delta: Change, moved: Mapping[str, SocketGroup]) -> None:
        self.told.append(("prepare", delta.version, sorted(moved)))
        if self.refusal is not None:
            raise self.refusal

    def too_small(self, new: Snapshot) -> ConfigError:
        return ConfigError([Diagnostic(("segment_max",), f"full at {new.version}", None)])

    def decide(self, new: Snapshot) -> None:
        self.snapshot = new

    async def commit(self, moved: Mapping[str, SocketGroup], *, closes: bool) -> None:
        await self.go_on.wait()
        self.told.append(("commit", self.snapshot.version, sorted(moved), closes))


class Bench:
    """A coordinator that has version 1 in force, with one listener."""

    def __init__(self) -> None:
        self.staff, self.groups = Staff(), SocketGroups(by_reuseport=False)
        listeners = self.staff.snapshot.listeners
        self.groups.commit(self.groups.prepare(listeners, 1), listeners)
        self.coordinator = Coordinator(self.staff, self.groups, 1)
        self.decided: list[int] = []

    async def change(self, *names: str) -> None:
        async with self.coordinator.turn():
            new = snapshot(self.coordinator.next_version, *names)
            await self.coordinator.change(new, lambda: self.decided.append(new.version))


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.groups.close()


async def test_workers_hear_of_sockets_that_are_new_and_of_those_that_go(bench: Bench) -> None:
    stays = bench.groups.addresses()["a"]
    await bench.change("a", "b")
    await bench.change("b")
    assert bench.staff.told == [
        ("prepare", 2, ["b"]),
        ("commit", 2, ["b"], False),
        ("prepare", 3, []),
        ("commit", 3, [], True),
    ]
    assert bench.decided == [2, 3]
    assert stays not in bench.groups.addresses().values()


@pytest.mark.parametrize(
    ("refusal", "raised"),
    [
        (OperationRefusedError("a worker"), OperationRefusedError),
        (SegmentFullError("full"), ConfigError),
        (asyncio.CancelledError(), asyncio.CancelledError),
    ],
    ids=["refused", "full", "cancelled"],
)
async def test_what_is_refused_changes_nothing_and_uses_its_version(
    bench: Bench, refusal: BaseException, raised: type[BaseException]
) -> None:
    before = bench.groups.addresses()
    bench.staff.refusal = refusal
    with pytest.raises(raised):
        await bench.change("a", "b")
    assert bench.groups.addresses() == before
    assert (bench.decided, bench.staff.snapshot.version) == ([], 1)
    bench.staff.refusal = None
    await bench.change("a")
    assert bench.decided == [3]


async def test_an_address_that_cannot_be_had_asks_no_worker(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        new = snapshot(2, f"b=127.0.0.1:{port}")
        async with bench.coordinator.turn():
            with pytest.raises(OSError, match=str(port)):
                await bench.coordinator.change(new, lambda: None)
    assert bench.staff.told == []


async def test_a_change_whose_caller_has_gone_is_whole_before_the_next(bench: Bench) -> None:
    bench.staff.go_on.clear()
    first = asyncio.create_task(bench.change("a", "b"))
    while not bench.decided:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    second = asyncio.create_task(bench.change("a"))
    await asyncio.sleep(0.05)
    assert bench.staff.told == [("prepare", 2, ["b"])], "the next one waits"
    bench.staff.go_on.set()
    await second
    assert bench.staff.told[1:] == [
        ("commit", 2, ["b"], False),
        ("prepare", 3, []),
        ("commit", 3, [], True),
    ]


async def test_no_version_is_used_where_there_is_no_room(bench: Bench) -> None:
    new = snapshot(2, "a", top="workers: 9\n")
    async with bench.coordinator.turn():
        with pytest.raises(OperationRefusedError, match="no room"):
            await bench.coordinator.change(new, lambda: None)
    assert bench.coordinator.next_version == 2
