"""The configurations of the two proxies: each number has other layers and keys of upstreams."""

from __future__ import annotations

import json
import random
from typing import Any

from tests.process.chained.plan import NATURES, WAYS

Keys = dict[str, Any]
PROTOCOLS = {"1": "http1", "2": "h2"}
UPGRADES = ["websocket"]
LAYERS = "tests.process.chained.layers:"
WILD_RETRY = {"retries": 2, "when": ["connect", "refused", "reset", 503]}
MOMENT = {"open_for": "200ms", "max_open_for": "400ms"}


def configured(dice: random.Random, hop: int, ports: dict[str, list[int]], workers: int) -> str:
    """One of the configurations of the proxy at a hop; ports by nature and protocol, as
    ``wild/1``. Its text is JSON, which is YAML too."""
    more = [f"{LAYERS}{name}" for name in ("Inward", "Outward") if dice.random() < 0.5]
    inner = [{"python": name} for name in [f"{LAYERS}Waiting", *more]]
    outer = [{"python": f"{LAYERS}AtOnce"}]
    if dice.random() < 0.5:
        inner, outer = outer, inner
    routes = []
    for way in WAYS:
        for nature in NATURES:
            route: Keys = {
                "name": f"{nature}-{way}",
                "match": {"path": {"prefix": f"/{way}/{nature}"}},
                "upstream": f"{nature}{way[hop]}",
                "timeout": "30s",
                "upgrade": UPGRADES,
                "layers": inner,
            }
            if nature != "steady":
                route["retry"] = WILD_RETRY
            routes.append(route)
    return json.dumps(
        {
            "version": 1,
            "drain": "10s",
            "workers": workers,
            "access_log": "json",
            "admin": {"bind": "127.0.0.1:0"},
            "listeners": {"edge": {"bind": "127.0.0.1:0", "layers": outer}},
            "routes": routes,
            "upstreams": {
                f"{nature}{number}": _upstream(dice, nature, number, ports[f"{nature}/{number}"])
                for nature in NATURES
                for number in PROTOCOLS
            },
        }
    )


def _upstream(dice: random.Random, nature: str, number: str, ports: list[int]) -> Keys:
    chosen = dice.sample(ports, dice.randint(1, len(ports)))
    keys: Keys = {
        "endpoints": [f"127.0.0.1:{port}" for port in chosen],
        "protocol": PROTOCOLS[number],
        "balance": dice.choice(("least_request", "round_robin", "random")),
        "pool": {"idle": dice.choice(("60s", "60s", "300ms", "0"))},
        "limits": {"client_share": "100%"},
        "mesh": "on",
    }
    if dice.random() < 0.3:
        keys["pool"]["lifetime"] = "2s"
    if number == "2":
        keys["h2"] = {"streams": dice.choice((2, 10, 100))}
    if nature == "wild":
        keys |= {"circuit_breaker": "off", "ejection": "off"}
        keys["retry_budget"] = {"percent": 100, "floor": 20}
    elif nature == "guarded":
        keys["circuit_breaker"] = {"failures": dice.choice((3, 6)), **MOMENT}
        keys["ejection"] = {"failures": 3, "eject_for": "100ms", "max_eject_for": "200ms"}
    return keys
