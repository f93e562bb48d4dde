"""The segment as Python hands it on: one memory for control and workers, each with its engine."""

from __future__ import annotations

import json
import os
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from meshcore._core import (
    CodecLimits,
    Engine,
    Request,
    Segment,
    ServerCodec,
    Ticket,
    Verdict,
    WorkerSlot,
    now_ns,
)
from meshcore.errors import ConfigError, SegmentLayoutError

MIB = 1 << 20
SECOND = 1_000_000_000


def create(**more: Any) -> Segment:
    return Segment.create(**{"max_bytes": 16 * MIB, "worker_slots": 3, "seed": 5, **more})


def limit(burst: int) -> dict[str, Any]:
    return {"rate": {"tokens": 1, "period_ns": 3_600 * SECOND, "burst": burst}}


def delta(version: int, *layers: dict[str, Any], address: str = "127.0.0.1:1") -> bytes:
    forward = {"forward": {"upstream": "api"}}
    route = {"name": "all", "path": {"prefix": "/"}, "action": forward}
    return json.dumps(
        {
            "config_version": version,
            "listeners": {"edge": {"layers": list(layers)}},
            "upstreams": {"api": {"endpoints": [{"address": address, "weight": 1}]}},
            "hosts": {"*": [route]},
        }
    ).encode()


def request() -> Request:
    codec = ServerCodec(CodecLimits(), False)
    event = codec.receive(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    assert isinstance(event, Request)
    return event


def begin(engine: Engine, host: str = "192.0.2.7") -> Ticket:
    listener = engine.listener("edge")
    return listener.begin(request(), engine.peer(host), now_ns())


def admitted(engine: Engine, host: str = "192.0.2.7") -> bool:
    ticket = begin(engine, host)
    verdict = ticket.verdict
    ticket.finish(now_ns())
    return verdict == Verdict.FORWARD


def workers_of(segment: Segment, count: int) -> list[Engine]:
    others = [Segment.open(segment.fileno()) for _ in range(count)]
    return [Engine.worker(other, slot, seed=slot) for slot, other in enumerate(others)]


def test_control_and_workers_charge_the_same_buckets() -> None:
    segment = create()
    change = delta(1, {"limit": limit(4)})
    Engine.control(segment, seed=1).apply(change)
    engines = workers_of(segment, 2)
    for engine in engines:
        engine.apply(change)
    assert [admitted(engines[i % 2]) for i in range(6)] == [True] * 4 + [False] * 2


def test_workers_know_a_client_by_the_same_key() -> None:
    segment = create()
    change = delta(1, {"client_limit": limit(1)})
    Engine.control(segment, seed=1).apply(change)
    one, other = workers_of(segment, 2)
    one.apply(change)
    other.apply(change)
    assert [admitted(one), admitted(other), admitted(other, "192.0.2.8")] == [True, False, True]


def test_a_worker_never_makes_what_control_did_not() -> None:
    segment = create()
    (engine,) = workers_of(segment, 1)
    with pytest.raises(
        ConfigError, match=r"upstream/api/endpoint/127\.0\.0\.1:1 is not in the shared"
    ):
        engine.prepare(delta(1))
    assert (segment.objects, engine.version) == (0, 0)
    with pytest.raises(ValueError, match="does not write"):
        Engine.control(Segment.open(segment.fileno()), seed=1)
    with pytest.raises(ValueError, match="no worker slot 3"):
        Engine.worker(segment, 3, seed=1)


def test_a_change_is_prepared_and_then_put_in_force() -> None:
    segment = create()
    control = Engine.control(segment, seed=1)
    (engine,) = workers_of(segment, 1)
    change = delta(7, {"python": {"name": "m:Layer"}})
    prepared, theirs = control.prepare(change), engine.prepare(change)
    assert (prepared.version, prepared.python_layers()) == (7, ["m:Layer"])
    assert prepared.upstreams() == [("api", [(0, "127.0.0.1:1")])] == theirs.upstreams()
    assert control.version == 0
    with pytest.raises(ValueError, match="another engine"):
        engine.commit(prepared)
    stale = control.prepare(change)
    control.commit(prepared)
    assert control.version == 7
    for again, text in ((prepared, "already committed"), (stale, "not in force any more")):
        with pytest.raises(ValueError, match=text):
            control.commit(again)
    with pytest.raises(ValueError, match="already committed"):
        prepared.upstreams()


def test_the_loop_never_waits_for_a_change_that_is_compiled() -> None:
    segment = create(max_bytes=256 * MIB)
    control = Engine.control(segment, seed=1)
    control.apply(delta(1))
    (engine,) = workers_of(segment, 1)
    engine.apply(delta(1))
    segment.occupy(0, os.getpid(), 1)
    ready = engine.prepare(delta(1))
    large = json.loads(delta(2))
    (route,) = large["hosts"]["*"]
    large["hosts"]["*"] = [
        route | {"name": f"r{n}", "path": {"prefix": f"/{n}"}} for n in range(50_000)
    ]
    change = json.dumps(large).encode()
    prepared = control.prepare(change)

    def compile() -> float:
        began = time.monotonic()
        started.set()
        engine.prepare(change)
        return time.monotonic() - began

    started = threading.Event()
    waits: list[float] = []
    with ThreadPoolExecutor(1) as pool:
        compiling = pool.submit(compile)
        started.wait()
        while not compiling.done():
            began = time.monotonic()
            engine.report(now_ns())
            assert engine.oldest_version == 1
            if len(waits) == 3:
                engine.commit(ready)
            waits.append(time.monotonic() - began)
            time.sleep(0.002)
    assert compiling.result() > 0.1
    assert len(waits) > 10
    assert max(waits) < 0.05
    control.commit(prepared)


def test_an_aborted_change_leaves_what_is_in_force() -> None:
    control = Engine.control(create(), seed=1)
    control.apply(delta(1))
    for version in range(2, 50):
        control.prepare(delta(version, address=f"127.0.0.1:{version}"))
    last = control.prepare(delta(50))
    assert last.upstreams() == [("api", [(0, "127.0.0.1:1")])], "its first number"
    control.commit(last)


def test_nothing_is_freed_that_a_workers_request_may_use() -> None:
    segment = create()
    control = Engine.control(segment, seed=1)
    (engine,) = workers_of(segment, 1)
    segment.occupy(0, os.getpid(), 11)

    def change(version: int) -> None:
        moved = delta(version, address=f"127.0.0.1:{version}")
        control.apply(moved)
        engine.apply(moved)
        engine.report(100 + version)

    change(1)
    held = begin(engine)
    change(2)
    assert segment.worker(0) == WorkerSlot(os.getpid(), 11, 102, 2, 1)
    for version in range(3, 20):
        change(version)
    before = segment.reserved_bytes
    for version in range(20, 300):
        change(version)
    assert segment.reserved_bytes == before, "what came later does not stay for it"
    assert begin(engine).verdict == held.verdict == Verdict.FORWARD
    assert segment.oldest_version == 1
    assert segment.retired == 1, "the endpoint of the first version"
    assert segment.retired_bytes >= 64 * segment.retired
    held.finish(now_ns())
    del held
    change(300)
    slot = segment.worker(0)
    assert (slot.version, slot.oldest_version) == (300, 300)
    after = segment.reserved_bytes
    for version in range(301, 500):
        change(version)
    assert segment.reserved_bytes == after
    assert segment.oldest_version == 499
    segment.clear(0)
    assert segment.oldest_version is None
    change(500)
    change(501)
    assert segment.retired == 0


def test_a_dead_workers_requests_are_forgotten() -> None:
    segment = create()
    change = delta(1, {"in_flight": {"max": 2}})
    Engine.control(segment, seed=1).apply(change)
    dying, other = workers_of(segment, 2)
    dying.apply(change)
    other.apply(change)
    segment.occupy(0, 1, now_ns())
    with pytest.raises(ValueError, match="worker slot 0 is process 1's"):
        segment.occupy(0, 2, now_ns())
    held = [begin(dying), begin(dying)]
    assert not admitted(other)
    segment.clear(0)
    assert (admitted(other), segment.worker(0)) == (True, WorkerSlot())
    del held
    assert admitted(other)


def test_another_layout_is_told_from_a_broken_file() -> None:
    segment = create()
    os.pwrite(segment.fileno(), b"12345678", 16)
    with pytest.raises(SegmentLayoutError, match="another layout"):
        Segment.open(segment.fileno())
    with open(__file__, "rb") as file, pytest.raises(SegmentLayoutError, match="not a shared"):
        Segment.open(file.fileno())
    with pytest.raises(OSError) as caught:  # noqa: PT011  # the number says it
        Segment.open(1 << 20)
    assert caught.value.errno == 9


def test_an_upgrade_takes_the_registry_over() -> None:
    old = create()
    change = delta(1, {"limit": limit(2)})
    control = Engine.control(old, seed=1)
    control.apply(change)
    (engine,) = workers_of(old, 1)
    engine.apply(change)
    assert admitted(engine)
    new = Segment.open(old.fileno())
    control = Engine.control(new, seed=2, adopt=True)
    assert new.objects == old.objects
    control.apply(change)
    assert new.objects == old.objects
    (engine,) = workers_of(new, 1)
    engine.apply(change)
    assert [admitted(engine), admitted(engine)] == [True, False]


def test_who_hands_the_registry_over_changes_nothing_more() -> None:
    old = create()
    change = delta(1, {"in_flight": {"max": 1}})
    control = Engine.control(old, seed=1)
    control.apply(change)
    (dying,) = workers_of(old, 1)
    dying.apply(change)
    old.occupy(0, 1, now_ns())
    held = begin(dying)
    ready, data = control.prepare(delta(2)), old.export()
    old.release()
    new = Segment.open(old.fileno())
    Engine.control(new, seed=2, adopt=True)
    before = (new.objects, new.retired, new.reserved_bytes)
    for refused in (
        lambda: control.prepare(delta(3, address="127.0.0.1:3")),
        lambda: control.apply(delta(3)),
        lambda: control.import_words(data),
        lambda: Engine.control(old, seed=1),
        lambda: Engine.control(old, seed=1, adopt=True),
        old.export,
        old.release,
    ):
        with pytest.raises(ValueError, match="the registry was handed over"):
            refused()
    assert (old.objects, old.retired, control.version) == (0, 0, 1)
    control.commit(ready)
    old.clear(0)
    assert old.worker(0) == WorkerSlot()
    # It failed: the old program reads the registry anew, in which nothing was changed.
    again = Segment.open(old.fileno())
    control = Engine.control(again, seed=3, adopt=True)
    assert (again.objects, again.retired, again.reserved_bytes) == before
    control.apply(change)
    assert again.objects == before[0]
    assert admitted(control), "what the dead worker held is forgotten"
    del held


def test_a_program_of_another_layout_takes_the_words() -> None:
    old = create()
    change = delta(1, {"limit": limit(2)}, {"client_limit": limit(1)})
    control = Engine.control(old, seed=1)
    control.apply(change)
    assert admitted(control)
    data = old.export()
    new = create(like=data, seed=99)
    control = Engine.control(new, seed=1)
    assert control.import_words(data) > 3
    control.apply(change)
    assert not admitted(control), "the client has used its token"
    assert admitted(control, "192.0.2.8"), "the bucket had one left"
    assert not admitted(control, "192.0.2.9")
    text = control.metrics("")[0].decode()
    assert 'meshcore_listener_requests_total{listener="edge"} 4' in text
    for call in (lambda: control.import_words(data[:-1]), lambda: create(like=b"x")):
        with pytest.raises(ValueError, match="not an export"):
            call()


def test_numbers_that_cannot_be_are_refused() -> None:
    for bad in ({"worker_slots": 0}, {"worker_slots": 65}, {"max_bytes": 64 * 1_024}):
        with pytest.raises(ConfigError):
            create(**bad)
    segment = create()
    assert (segment.worker_slots, segment.max_bytes, segment.objects) == (3, 16 * MIB, 0)
    assert os.fstat(segment.fileno()).st_size == 16 * MIB
    assert not os.get_inheritable(segment.fileno())
    with pytest.raises(PermissionError):
        os.ftruncate(segment.fileno(), 0)
    words = struct.unpack("<2Q", os.pread(segment.fileno(), 16, 0))
    assert words == (int.from_bytes(b"meshcore"), 2)
