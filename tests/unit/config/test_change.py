"""What a worker is told of a new configuration."""

import json
from typing import Any

from meshcore.config.change import Change, change
from meshcore.config.compile import compile
from meshcore.config.load import load_text
from meshcore.config.snapshot import Snapshot


def snapshot(top: str = "", listener: str = "", route: str = "", upstream: str = "") -> Snapshot:
    return compile(
        load_text(
            "version: 1\n"
            f"{top}\n"
            f"listeners: {{a: {{bind: a:1{listener}}}}}\n"
            f"routes: [{{name: r, upstream: u{route}}}]\n"
            f"upstreams: {{u: {{endpoints: [b:1]{upstream}}}}}"
        )
    )


def core(changed: Change) -> dict[str, Any]:
    """What the core is told but for what is always there."""
    delta: dict[str, Any] = json.loads(changed.core)
    return {key: value for key, value in delta.items() if value and key != "config_version"}


NOTHING: dict[str, Any] = {"remove": {"listeners": [], "hosts": [], "upstreams": []}}


def test_the_first_change_is_the_whole() -> None:
    first = change(None, snapshot())
    assert core(first) == NOTHING | {
        key: value for key, value in snapshot().resources.items() if key != "config_version"
    }
    assert first.buffer_total_bytes == 64 << 20


def test_what_stays_is_not_told() -> None:
    assert core(change(snapshot(), snapshot())) == NOTHING


def test_each_key_of_the_core_is_told_when_it_changes() -> None:
    was = snapshot()
    for keys, part, name in (
        ({"listener": ", limits: {body_bytes_per_second: 0}"}, "listeners", "a"),
        ({"route": ", body_bytes_per_second: 9"}, "hosts", "*"),
        ({"route": ", retry: {per_try: 1s}"}, "hosts", "*"),
        ({"upstream": ", limits: {client_share: 100%}"}, "upstreams", "u"),
    ):
        now = snapshot(**keys)
        assert core(change(was, now)) == NOTHING | {part: {name: now.resources[part][name]}}


def test_what_may_be_kept_of_bodies_is_told_when_it_changes() -> None:
    changed = change(snapshot(), snapshot("buffer_total: 0"))
    assert changed.buffer_total_bytes == 0
    assert json.loads(changed.core)["buffer_total"] == 0
    assert "buffer_total" not in json.loads(change(snapshot(), snapshot()).core)
