"""The configuration of most HTTP/2 tests: one listener, one route, one upstream."""

from __future__ import annotations

import json
from typing import Any

Keys = dict[str, Any]


class Mesh:
    """Keys of a configuration that a test adds to; its text is JSON, which is YAML too."""

    def __init__(self, engine: str, *ports: int) -> None:
        self.engine = engine
        self.listener: Keys = {
            "bind": "127.0.0.1:0",
            "protocols": {"h2": {"engine": engine}},
        }
        self.route: Keys = {"name": "all", "upstream": "one", "timeout": "5s"}
        self.upstream: Keys = {
            "endpoints": [f"127.0.0.1:{port}" for port in ports],
            "connect_timeout": "1s",
            "h2": {"engine": engine},
        }
        self.others: list[Keys] = []
        self.listeners: dict[str, Keys] = {}
        self.top: Keys = {"version": 1, "drain": "1s"}

    def listen(self, **keys: Any) -> Mesh:
        """Keys of the listener."""
        self.listener |= keys
        return self

    def another_listener(self, name: str) -> Mesh:
        """A second listener, like the first as it is now."""
        self.listeners[name] = dict(self.listener)
        return self

    def client_h2(self, **keys: Any) -> Mesh:
        """Keys of the listener's HTTP/2."""
        self.listener["protocols"]["h2"] |= keys
        return self

    def via(self, **keys: Any) -> Mesh:
        """Keys of the route."""
        self.route |= keys
        return self

    def beside(self, name: str, **keys: Any) -> Mesh:
        """Another route."""
        self.others.append({"name": name} | keys)
        return self

    def to(self, protocol: str = "http1", **keys: Any) -> Mesh:
        """Keys of the upstream."""
        self.upstream |= {"protocol": protocol} | keys
        return self

    def origin_h2(self, **keys: Any) -> Mesh:
        """Keys of the upstream's HTTP/2."""
        self.upstream["h2"] |= keys
        return self

    def __str__(self) -> str:
        return json.dumps(
            self.top
            | {
                "listeners": {"edge": self.listener} | self.listeners,
                "routes": [self.route, *self.others],
                "upstreams": {"one": self.upstream},
            }
        )
