"""Routes and layers in the words of ``rust/meshcore-core/src/snapshot``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from meshcore.config.failures import grpc_statuses, statuses
from meshcore.config.paths import refused
from meshcore.config.tracing import share
from meshcore.config.units import SECOND, Rate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshcore.config.allow import Allow, AllowRule
    from meshcore.config.failures import BreakerFailure
    from meshcore.config.layers import CircuitBreaker, LimitKey, ListenerLayer, Quota
    from meshcore.config.path_match import PathMatch
    from meshcore.config.route import FieldChanges, Match, Retry, Route, ValueMatch

ANY_PATH: Final = "any"
PATHS: Final = ("exact", "prefix", "regex")
# Routes wait 15 s unless they say otherwise.
PROBE_TIMEOUT: Final = 30 * SECOND
# Keys of a route that the core has in another form or by other names; the rest it has as they are.
OTHERWISE: Final = frozenset(
    (
        *("match", "paths", "upstream", "rewrite", "redirect", "respond", "retry", "layers"),
        *("timeout", "idle_timeout", "request_headers", "response_headers", "tracing"),
    )
)
VALUES: Final = ("exact", "prefix", "suffix", "contains", "regex", "present")


def routes_by_host(routes: Iterable[Route]) -> dict[str, list[dict[str, Any]]]:
    """Routes under each host they name; ``order`` is their place in the file."""
    hosts: dict[str, list[dict[str, Any]]] = {}
    for order, model in enumerate(routes):
        compiled = _route(model, order)
        # A host named twice by one route is still one rule of it.
        for host in dict.fromkeys(model.match.host):
            hosts.setdefault(host, []).append(compiled)
    return hosts


def _route(model: Route, order: int) -> dict[str, Any]:
    return {
        **{name: value for name, value in model if name not in OTHERWISE},
        "order": order,
        **_match(model.match),
        "refused": refused(model.paths),
        "action": _action(model),
        "timeout_ns": model.timeout,
        "idle_ns": model.idle_timeout,
        "trace_sample": share(model.tracing.sample) if model.tracing else None,
        "retry": _retry(model.retry),
        "layers": [layer(x, model.timeout) for x in model.layers],
        "request_headers": _changes(model.request_headers),
        "response_headers": _changes(model.response_headers),
    }


def matching(name: str, model: Match, priority: int, order: int) -> dict[str, Any]:
    """A route that only says which requests are its own."""
    action = {"respond": {"status": 200, "body": "", "content_type": ""}}
    return {"name": name, "priority": priority, "order": order, **_match(model), "action": action}


def _match(model: Match) -> dict[str, Any]:
    return {
        "path": _given(model.path, PATHS) if model.path else ANY_PATH,
        "methods": model.methods,
        "headers": [{"name": n, "value": _value(v)} for n, v in model.headers.items()],
        "query": [{"name": n, "value": _value(v)} for n, v in model.query.items()],
    }


def _value(model: ValueMatch) -> dict[str, Any]:
    if model.absent is not None:
        return {"present": not model.absent}
    return _given(model, VALUES)


def _given(model: PathMatch | ValueMatch, names: Iterable[str]) -> dict[str, Any]:
    """The one key that is given, as the model has made sure (10 times `model_dump`'s speed)."""
    return next({name: value} for name in names if (value := getattr(model, name)) is not None)


def _action(model: Route) -> dict[str, Any]:
    if model.redirect is not None:
        return {"redirect": model.redirect.model_dump()}
    if model.respond is not None:
        return {"respond": model.respond.model_dump()}
    forward: dict[str, Any] = {"upstream": model.upstream}
    if model.rewrite is not None:
        forward["prefix_rewrite"] = model.rewrite.path
        forward["host_rewrite"] = model.rewrite.host
    return {"forward": forward}


def _retry(model: Retry) -> dict[str, Any]:
    return {
        "retries": model.retries,
        "per_try_ns": model.per_try,
        "connect": "connect" in model.when,
        "refused": "refused" in model.when,
        "reset": "reset" in model.when,
        "statuses": statuses(model.when),
        "grpc_statuses": grpc_statuses(model.when),
    }


def _changes(model: FieldChanges) -> dict[str, Any]:
    return {
        "remove": model.remove,
        "set": list(model.set.items()),
        "add": list(model.add.items()),
    }


def layer(model: ListenerLayer, timeout: int = 0) -> dict[str, Any]:
    """One layer; the model has made sure that it is exactly one. `timeout`: its route's."""
    if model.client_limit is not None:
        return {"client_limit": _quota(model.client_limit)}
    if model.limit is not None:
        key = model.limit.key
        return {"limit": {**_quota(model.limit), "key": key and _key(key)}}
    if model.allow is not None:
        return {"allow": _allow(model.allow)}
    if model.python is not None:
        return {"python": {"name": model.python.key}}
    name, part = next(each for each in model if each[1] is not None)
    if name == "circuit_breaker":
        return {name: rules(part, timeout)}
    return {name: dict(part)}  # in the core's words


def _allow(model: Allow) -> dict[str, Any]:
    return {"rules": [_rule(rule) for rule in model.rules], "shadow": model.shadow}


def _rule(model: AllowRule) -> dict[str, Any]:
    """What is not given is left out: no list means any."""
    rule: dict[str, Any] = {"name": model.name}
    if (whose := model.identities) is not None:
        rule["identities"] = "any" if whose.any else {"names": whose.all}
    if model.networks is not None:
        rule["networks"] = model.networks
    if model.methods is not None:
        rule["methods"] = model.methods
    if model.paths is not None:
        rule["paths"] = [_given(path, PATHS) for path in model.paths]
    return rule


def _quota(model: Quota) -> dict[str, Any]:
    return {
        "name": model.name,
        "rate": _rate(model.rate, model.burst),
        "clients": model.clients,
    }


def _key(model: LimitKey) -> str | dict[str, Any]:
    if model.header is not None:
        join = model.multiple == "join"
        return {"header": {"name": model.header, "missing": model.missing, "join": join}}
    return model.word


def _rate(rate: Rate, burst: int | None) -> dict[str, int]:
    in_a_second = max(1, rate.tokens * SECOND // rate.period_ns)
    return {
        "tokens": rate.tokens,
        "period_ns": rate.period_ns,
        "burst": in_a_second if burst is None else burst,
    }


def rules(model: CircuitBreaker, timeout: int = 0) -> dict[str, Any]:
    """A breaker's rules. `timeout`: the longest of the routes that it guards. In it each of their
    requests ends, or gives a probe's place back: none is lost sooner."""
    return {
        "failures": model.failures,
        "failure_percent": model.failure_percent,
        "min_calls": model.min_calls,
        "window_ns": model.window,
        "successes": model.successes,
        "probes": model.probes,
        "open_for_ns": model.open_for,
        "max_open_for_ns": model.max_open_for,
        "on": model.on and _on(model.on),
        "slow_call_ns": model.slow_call or 0,
        "probe_timeout_ns": max(PROBE_TIMEOUT, timeout),
    }


def _on(failures: list[BreakerFailure]) -> dict[str, Any]:
    return {
        "connect": "connect" in failures,
        "reset": "reset" in failures,
        "timeout": "timeout" in failures,
        "slow": "slow" in failures,
        "statuses": statuses(failures),
        "grpc_statuses": grpc_statuses(failures),
    }
