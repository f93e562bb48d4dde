"""What differs between two snapshots: all that a worker is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from meshcore.config.snapshot import AccessLogSpec, ListenerSpec, Snapshot, UpstreamSpec, core_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Change", "change"]


@dataclass(frozen=True, slots=True)
class Change:
    """From one configuration to the next; from none, the whole."""

    version: int
    listeners: tuple[ListenerSpec, ...]
    """New ones and those that changed."""
    removed_listeners: tuple[str, ...]
    upstreams: tuple[UpstreamSpec, ...]
    """New ones and those whose connections are made in another way."""
    removed_upstreams: tuple[str, ...]
    access_log: AccessLogSpec | None
    drain_ns: int
    buffer_total_bytes: int
    """The most that a worker keeps of small request bodies that it awaits."""
    core: bytes
    """The core's `Delta` as JSON."""


def change(old: Snapshot | None, new: Snapshot) -> Change:
    """What leads from `old` to `new`. O(configuration); the change is as small as it is."""
    was = old.resources if old is not None else _NOTHING
    listeners, removed_listeners = _specs(old.listeners if old else (), new.listeners)
    upstreams, removed_upstreams = _specs(old.upstreams if old else (), new.upstreams)
    delta: dict[str, Any] = {
        "config_version": new.version,
        "remove": {part: _gone(was[part], new.resources[part]) for part in _PARTS},
    }
    for part in _PARTS:
        delta[part] = _changed(was[part], new.resources[part])
    for whole in _WHOLE:
        if was.get(whole) != new.resources[whole]:
            delta[whole] = new.resources[whole]
    return Change(
        version=new.version,
        listeners=listeners,
        removed_listeners=removed_listeners,
        upstreams=upstreams,
        removed_upstreams=removed_upstreams,
        access_log=new.access_log,
        drain_ns=new.drain_ns,
        buffer_total_bytes=new.buffer_total_bytes,
        core=core_json(delta),
    )


_PARTS = ("listeners", "hosts", "upstreams")
_WHOLE = ("buffer_total", "tracing", "counts")
"""What goes as one."""
_NOTHING: Mapping[str, Any] = {part: {} for part in _PARTS}


def _specs(old: Iterable[Any], new: Iterable[Any]) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    before = {spec.name: spec for spec in old}
    changed = tuple(spec for spec in new if before.get(spec.name) != spec)
    return changed, tuple(before.keys() - {spec.name for spec in new})


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in new.items() if old.get(name) != value}


def _gone(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return sorted(old.keys() - new.keys())
