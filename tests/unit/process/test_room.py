"""How much memory workers share, and what is said when it is not enough."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from meshcore import Proxy
from meshcore._core import Engine, Segment
from meshcore.cli import main
from meshcore.config.compile import compile
from meshcore.config.load import load_text
from meshcore.config.snapshot import Snapshot
from meshcore.errors import ConfigError, SegmentFullError
from meshcore.process.room import LEAST_BYTES, MIB, check_room, need, share, slots_for


def text(limits: int, more: str = "") -> str:
    """A configuration whose limits have large tables: the memory of many routes, sooner made."""
    limit = "{limit: {rate: 1/m, key: client, clients: 4000000}}"
    routes = "".join(
        f"  - {{name: r{n}, match: {{path: {{prefix: /{n}}}}}, respond: {{}}, layers: [{limit}]}}\n"
        for n in range(limits)
    )
    listeners = "listeners: {edge: {bind: '127.0.0.1:0'}}\n"
    return f"version: 1\nworkers: 2\n{more}{listeners}routes:\n{routes or '  []'}"


def snapshot(limits: int, more: str = "") -> Snapshot:
    return compile(load_text(text(limits, more)))


def fits(whole: Snapshot, max_bytes: int, slots: int) -> bool:
    segment = Segment.create(max_bytes=max_bytes, worker_slots=slots, seed=1)
    try:
        Engine.control(segment, seed=1).apply(whole.core_json())
    except SegmentFullError:
        return False
    return True


def test_what_does_not_fit_is_one_problem() -> None:
    segment = Segment.create(max_bytes=2 * MIB, worker_slots=8, seed=1)
    with pytest.raises(SegmentFullError) as caught:
        Engine.control(segment, seed=1).apply(snapshot(9).core_json())
    assert str(caught.value) == "shared memory is full: segment_max is 2097152 bytes"


@pytest.mark.parametrize("workers", [1, 4, 30])
@pytest.mark.parametrize("limits", [1, 9])
def test_what_is_needed_fits_and_less_does_not(limits: int, workers: int) -> None:
    whole, slots = snapshot(limits), slots_for(workers)
    least = need(whole, slots)
    assert least % MIB == 0
    assert (fits(whole, least, slots), fits(whole, least - MIB, slots)) == (True, False)


def test_a_small_configuration_has_the_usual_room() -> None:
    segment, engine, kept = share(snapshot(0), 2, 1)
    assert (segment.max_bytes, engine.version, kept) == (LEAST_BYTES, 1, 0)


def test_a_large_one_has_room_for_as_much_again() -> None:
    whole = snapshot(9)
    assert need(whole, slots_for(2)) > LEAST_BYTES
    segment, engine, _ = share(whole, 2, 1)
    assert segment.max_bytes >= 2 * segment.reserved_bytes
    assert engine.version == 1
    # Also one that would just fit the usual room.
    nearly = snapshot(3)
    assert LEAST_BYTES // 2 < need(nearly, slots_for(2)) < LEAST_BYTES
    assert share(nearly, 2, 1)[0].max_bytes > LEAST_BYTES


def test_what_is_given_is_kept_to_and_the_least_is_told() -> None:
    least = need(snapshot(9), slots_for(2)) // MIB
    given = snapshot(9, "segment_max: 64MiB\n")
    told = f"segment_max: shared memory is full at 64MiB (set it to at least {least}MiB)"
    for attempt in (lambda: share(given, 2, 1), lambda: check_room(given)):
        with pytest.raises(ConfigError) as caught:
            attempt()
        assert str(caught.value) == told
    enough = snapshot(9, f"segment_max: {least}MiB\n")
    assert share(enough, 2, 1)[0].max_bytes == least * MIB
    assert check_room(enough) == least * MIB


def test_state_that_is_taken_over_makes_room_too() -> None:
    segment, _, _ = share(snapshot(9), 2, 1)
    words = segment.export()
    other = compile(load_text(text(0)))
    larger, engine, kept = share(other, 2, 1, words)
    assert kept >= 9
    assert engine.version == 1
    assert larger.max_bytes > LEAST_BYTES


def test_check_tells_what_is_needed(tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    file.write_text(text(9))
    least = need(snapshot(9), slots_for(2)) // MIB
    result = CliRunner().invoke(main, ["check", str(file)])
    shared = f"{least}MiB of shared memory"
    assert result.output == f"{file}: ok (1 listener, 9 routes, 0 upstreams, {shared})\n"
    file.write_text(text(9, "segment_max: 64MiB\n"))
    result = CliRunner().invoke(main, ["check", str(file)])
    told = f"segment_max: shared memory is full at 64MiB (set it to at least {least}MiB)"
    assert (result.exit_code, result.output) == (2, f"{file}: {told}\n")
    file.write_text(text(0, "segment_max: auto\n"))
    assert CliRunner().invoke(main, ["check", str(file)]).exit_code == 0


def test_a_proxy_has_the_room_that_it_needs() -> None:
    Proxy(load_text(text(9)))
    least = need(snapshot(9), 1) // MIB
    with pytest.raises(ConfigError) as caught:
        Proxy(load_text(text(9, "segment_max: 64MiB\n")))
    told = f"segment_max: shared memory is full at 64MiB (set it to at least {least}MiB)"
    assert str(caught.value) == told
