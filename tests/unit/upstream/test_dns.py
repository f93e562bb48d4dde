"""Look-ups have threads of their own, a bounded number, and one that hangs gives its place up."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from meshcore.upstream import dns
from meshcore.upstream.dns import Resolver
from tests.wire.conftest import eventually

GOOD = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))]
GOOD_V6 = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 5))]


class Names:
    """Stands for the system's resolver."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.mute: dict[str, threading.Event] = {}

    def hang(self, *names: str) -> None:
        """These are not answered."""
        self.mute |= {name: threading.Event() for name in names}

    def look_up(self, name: str) -> Any:
        """Called in a thread."""
        self.asked.append(name)
        if name in self.mute:
            self.mute[name].wait()
        return GOOD


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    """A resolver that hangs as told, for two at a time and three in all."""
    system = Names()
    monkeypatch.setattr(dns, "system_look_up", system.look_up)
    monkeypatch.setattr(dns, "PLACES", 2)
    monkeypatch.setattr(dns, "THREADS", 3)
    monkeypatch.setattr(dns, "HANGS_AFTER_S", 0.01)
    yield system
    for event in system.mute.values():
        event.set()


def run(work: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(10):
            await work

    asyncio.run(bounded())


def test_a_name_has_one_look_up_however_many_wait(names: Names) -> None:
    async def go() -> None:
        resolver = Resolver(asyncio.get_running_loop())
        names.hang("a")
        first, second = (asyncio.create_task(resolver.resolve("a", n)) for n in (80, 81))
        third = asyncio.create_task(resolver.resolve("a", 80))
        await asyncio.sleep(0)
        third.cancel()  # and who leaves takes it from nobody
        names.mute["a"].set()
        assert [info[4] for info in await first] == [("192.0.2.1", 80)]
        assert [info[4] for info in await second] == [("192.0.2.1", 81)]
        assert names.asked == ["a"]
        await resolver.resolve("a", 80)
        assert names.asked == ["a", "a"], "nothing is remembered"

    run(go())


def test_what_hangs_gives_its_place_up_and_keeps_its_thread(names: Names) -> None:
    async def go() -> None:
        resolver = Resolver(asyncio.get_running_loop())
        names.hang("a", "b", "c")
        hung = [asyncio.create_task(resolver.resolve(name, 80)) for name in ("a", "b")]
        await eventually(lambda: len(names.asked) == 2)
        await resolver.resolve("good", 80)  # behind two that hang
        hung.append(asyncio.create_task(resolver.resolve("c", 80)))
        await eventually(lambda: "c" in names.asked and resolver._places == dns.PLACES)
        late = asyncio.create_task(resolver.resolve("late", 80))  # three threads hang
        given_up = asyncio.create_task(resolver.resolve("given up", 80))
        await asyncio.sleep(0)
        given_up.cancel()
        assert "late" not in names.asked
        names.mute["b"].set()
        await asyncio.gather(late, hung[1])
        names.mute["a"].set()
        names.mute["c"].set()
        await asyncio.gather(*hung)
        await resolver.resolve("given up no more", 80)
        assert "given up" not in names.asked

    run(go())


def test_a_failed_look_up_is_everybodys(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> Any:
        raise UnicodeError(name) if name == "?" else socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(dns, "system_look_up", fail)

    async def go() -> None:
        resolver = Resolver(asyncio.get_running_loop())
        found = await asyncio.gather(
            *(resolver.resolve(name, 80) for name in ("a", "a", "?")), return_exceptions=True
        )
        assert [type(each) for each in found] == [socket.gaierror, socket.gaierror, UnicodeError]

    run(go())


def test_a_process_without_threads_left_says_so(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def go() -> None:
        resolver = Resolver(asyncio.get_running_loop())
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", no_more)
            with pytest.raises(OSError, match="no thread") as caught:
                await resolver.resolve("a", 80)
            assert caught.value.errno == errno.EAGAIN
        await resolver.resolve("a", 80)

    run(go())


def test_an_answer_that_comes_after_the_loop_is_closed_is_nobodys(names: Names) -> None:
    names.hang("a")

    async def go() -> None:
        resolver = Resolver(asyncio.get_running_loop())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await resolver.resolve("a", 80)

    run(go())
    threads = [each for each in threading.enumerate() if each.name == "meshcore-dns"]
    assert threads
    assert all(each.daemon for each in threads), "a process that ends waits for none"
    names.mute["a"].set()
    for each in threads:
        each.join(5)
        assert not each.is_alive()


def test_addresses_are_known_without_a_question(names: Names) -> None:
    assert dns.numeric("192.0.2.1", 80) is not None
    found = dns.numeric("2001:db8::1", 80)
    assert found is not None
    assert found[0][4] == ("2001:db8::1", 80, 0, 0)
    for name in ("localhost", "a.test", "", "x" * 300, "ä" * 70):
        assert dns.numeric(name, 80) is None
    assert dns.at_port(GOOD_V6, 80)[0][4] == ("2001:db8::1", 80, 0, 5)
    assert not names.asked
