"""Rules of `allow` that never hold or never decide are told; others are not."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator

import pytest

from meshcore.config.allow import AllowRule
from meshcore.config.load import load_bytes
from meshcore.config.model import Config
from meshcore.config.warnings import CHECKS, reach
from meshcore.config.warnings.allow import (
    MAX_COMPARED,
    MAX_STEPS,
    any_methods,
    rules_that_never_hold,
    rules_without_effect,
    shadows_alone,
)
from meshcore.config.warnings.forwarded import unasked_certificates
from meshcore.config.warnings.paths import literal_wildcards, refused_paths
from meshcore.config.warnings.reach import Budget, Reach
from meshcore.errors import Diagnostic

Check = Callable[[Config], Iterator[Diagnostic]]
OF_RULES: tuple[Check, ...] = (
    rules_that_never_hold,
    rules_without_effect,
    literal_wildcards,
    refused_paths,
)

ASKS = "{ca: ca.pem}"
DOMAINS = "{trust_domains: {one: a.pem, two: b.pem}}"


def config(*rules: str, **auths: str) -> str:
    """Rules of a route that listeners serve which ask their clients so."""
    lines = ["version: 1", "listeners:"]
    for number, (name, auth) in enumerate(auths.items(), 1):
        asks = f", client_auth: {auth}" if auth else ""
        lines.append(f"  {name}: {{bind: 'a:{number}', tls: {{cert: c, key: k{asks}}}}}")
    lines += ["routes:", "- name: r", "  respond: {}", "  layers:", "  - allow:", "      rules:"]
    return "\n".join([*lines, *(f"      - {{{rule}}}" for rule in rules), ""])


def told(text: str, *checks: Check) -> list[str]:
    loaded = load_bytes(text.encode(), "m", None, secrets=False).config
    checks = checks or OF_RULES
    assert set(checks) <= set(CHECKS)
    return [
        f"{problem.steps[-1]}: {problem.message}" for check in checks for problem in check(loaded)
    ]


NARROW = "identities: {spiffe: 'spiffe://d/"
WEB = "name: w, identities: {spiffe: ['spiffe://one/web']}"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (config(WEB, edge=""), ["identities: never holds: no client is asked for"]),
        (config("name: a, identities: any", edge="", b=""), ["identities: never holds"]),
        (config(WEB, edge="", other=ASKS), []),
        (config(WEB, edge=DOMAINS), []),
        (config(WEB.replace("one", "three"), edge=DOMAINS), ["0: never holds: three is in no"]),
        (config(WEB.replace("one", "three"), edge=DOMAINS, other=ASKS), []),
        (config("name: a, identities: {san: 'dns:a.b'}", edge=DOMAINS), []),
        (config("name: a, networks: [10.0.0.0/8]", edge=""), []),
    ],
)
def test_rules_for_clients_that_nobody_vouches_for(text: str, lines: list[str]) -> None:
    found = told(text)
    assert len(found) == len(lines)
    assert all(one.startswith(line) for one, line in zip(found, lines, strict=True))


def test_a_name_that_asks_for_certificates_is_enough() -> None:
    text = f"""
version: 1
listeners:
  edge:
    bind: a:1
    tls: {{cert: c, key: k, sni: {{a.test: {{cert: c, key: k, client_auth: {ASKS}}}}}}}
    layers: [allow: {{rules: [{{{WEB}}}]}}]
  bare: {{bind: a:2, layers: [allow: {{rules: [{{{WEB}}}]}}]}}
"""
    (line,) = told(text)
    assert line.startswith("identities: never holds")


@pytest.mark.parametrize(
    ("first", "then", "is_told"),
    [
        ("methods: [GET]", "methods: [GET]", True),
        ("methods: [GET, PUT]", "methods: [GET]", True),
        ("methods: [GET]", "methods: [GET, PUT]", False),
        ("methods: [GET]", "methods: [GET], networks: [10.0.0.0/8]", True),
        ("methods: [GET], networks: [10.0.0.0/8]", "methods: [GET]", False),
        ("networks: [10.0.0.0/8]", "networks: [10.1.0.0/16, 10.2.3.4]", True),
        ("networks: [10.0.0.0/8]", "networks: [10.1.0.0/16, unix]", False),
        ("networks: [unix, '::/0']", "networks: [unix]", True),
        ("networks: ['::/0']", "networks: [10.0.0.0/8]", True),
        ("networks: [0.0.0.0/0]", "networks: ['::1']", False),
        ("networks: [10.0.0.0/9, 10.128.0.0/9]", "networks: [10.0.0.0/8]", True),
        ("networks: [10.0.0.0/9, 10.128.0.0/10]", "networks: [10.0.0.0/8]", False),
        ("networks: [unix]", "networks: [unix]", True),
        ("networks: [10.1.0.0/16]", "networks: [10.0.0.0/8]", False),
        ("identities: any", "identities: {san: 'dns:a.b'}", True),
        ("identities: any", "identities: any, methods: [GET]", True),
        ("identities: {san: ['dns:a.b', 'dns:c.d']}", "identities: {san: 'dns:a.b'}", True),
        ("identities: {san: 'dns:a.b'}", "identities: any", False),
        *(
            (f"identities: {{spiffe: 'spiffe://d/{wide}'}}", f"{NARROW}{narrow}'}}", is_told)
            for wide, narrow, is_told in (
                ("ns/**", "ns/*/sa/web", True),
                ("ns/**", "ns/a", True),
                ("ns/**", "ns/**", True),
                ("**", "ns/a/**", True),
                ("ns/*/sa/*", "ns/a/sa/*", True),
                ("ns/*/sa/web", "ns/a/sa/web", True),
                ("ns/a/**", "ns/**", False),
                ("ns/*", "ns/**", False),
                ("ns/**", "ns", False),
                ("ns/**", "nx/a", False),
                ("ns/a", "ns/*", False),
                ("ns/*", "ns/a/b", False),
            )
        ),
        ("identities: {spiffe: 'spiffe://c/**'}", "identities: {spiffe: 'spiffe://d/a'}", False),
        ("identities: {san: 'dns:a.b'}", "methods: [GET]", False),
        ("methods: [GET]", "identities: any, methods: [GET]", True),
        ("paths: [{prefix: /a}]", "paths: [{prefix: /a/b}, {exact: /a}]", True),
        ("paths: [{prefix: /a/}]", "paths: [{exact: /a}]", True),
        ("paths: [{prefix: /}]", "paths: [{prefix: /b}]", True),
        ("paths: [{prefix: /a}]", "paths: [{prefix: /ab}]", False),
        ("paths: [{exact: /a}]", "paths: [{prefix: /a}]", False),
        ("paths: [{exact: /a}]", "paths: [{exact: /a/}]", False),
        ("paths: [{prefix: /}]", "paths: [{regex: '.*'}]", False),
        ("paths: [{regex: '.*'}]", "paths: [{regex: '.*'}]", True),
    ],
)
def test_a_rule_behind_one_that_holds_whenever_it_does(
    first: str, then: str, is_told: bool
) -> None:
    rules = ["name: other, methods: [DELETE]", f"name: one, {first}", f"name: two, {then}"]
    found = told(config(*rules, edge=ASKS), rules_without_effect)
    assert found == ["2: never decides: rules[1] 'one' holds whenever it does"] * is_told


def test_paths_are_those_of_routes() -> None:
    rule = "name: a, paths: [{prefix: '/v1/*'}, {exact: '/u/{id}'}, {regex: '/v1/.*'}]"
    assert told(config(rule, edge=ASKS)) == [
        "prefix: * stands for itself in a path, not for any text",
        "exact: {id} stands for itself in a path, not for any text",
    ]
    (line,) = told(config("name: a, paths: [{prefix: /a%2Fb}]", edge=ASKS))
    assert line == "prefix: never matches: its listeners refuse %2F in paths"


# Of each key of a rule what holds less often than a rule without it.
EXAMPLES = {
    "identities": "identities: any",
    "networks": "networks: ['::/0', unix]",
    "methods": "methods: [GET]",
    "paths": "paths: [{prefix: /}]",
}


@pytest.mark.parametrize("key", [key for key in AllowRule.model_fields if key != "name"])
def test_each_key_of_a_rule_is_compared(key: str) -> None:
    """A rule that says one thing more covers none that does not say it."""
    rest = [text for other, text in EXAMPLES.items() if other != key]
    wide = ", ".join(["name: one", *rest, EXAMPLES[key]])
    narrow = ", ".join(["name: two", *rest])
    assert told(config(wide, narrow, edge=ASKS)) == []
    assert len(told(config(narrow, wide, edge=ASKS))) == 1


def networked(rules: int, networks: int) -> Config:
    """Rules that have all networks in common but one each."""
    common = [f"10.{n // 100}.{n % 100 * 2}.0/24" for n in range(networks - 1)]
    texts = [
        f"name: r{n}, networks: [{', '.join([*common, f'192.0.{n}.0/24'])}]" for n in range(rules)
    ]
    text = config(*texts, edge="")
    return load_bytes(text.encode(), "m", None, secrets=False).config


def test_each_network_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    class Reader:
        def __getattr__(self, name: str) -> object:
            return getattr(ipaddress, name)

        def ip_network(self, text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
            read.append(text)
            return ipaddress.ip_network(text)

    monkeypatch.setattr(reach, "ipaddress", Reader())
    assert list(rules_without_effect(networked(30, 40))) == []
    assert len(read) == 30 * 40


def test_comparing_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much rules have in common; what is compared first is told of all the same."""
    left: list[int] = []
    looked: list[int] = []

    def spend(budget: Budget, steps: int = 1) -> bool:
        budget.left -= steps
        left.append(budget.left)
        return budget.left >= 0

    def has(ranges: object, first: int, last: int) -> bool:
        looked.append(first)
        return True

    monkeypatch.setattr("meshcore.config.warnings.allow.MAX_STEPS", 2_000)
    monkeypatch.setattr(Budget, "spend", spend)
    monkeypatch.setattr(reach._Ranges, "_has", has)
    found = list(rules_without_effect(networked(120, 100)))
    assert 0 < len(found) < 119
    assert left[-1] < 0
    assert len(looked) <= 2_000
    assert len(left) <= 120 * MAX_COMPARED


def test_the_bound_is_wide_enough_for_what_people_write() -> None:
    budget = Budget(MAX_STEPS)
    rules = networked(100, 100).routes[0].layers[0].allow
    assert rules is not None
    reaches = [Reach(rule) for rule in rules.rules]
    for number, one in enumerate(reaches):
        assert not any(other.covers(one, budget) for other in reaches[:number])
    assert budget.left > 0


@pytest.mark.parametrize(
    ("match", "rule", "lines"),
    [
        ("path: {prefix: /v1}", "paths: [{exact: /v1/a}, {exact: /v2}]", ["1: never matches: its"]),
        ("path: {prefix: /v1}", "paths: [{prefix: /}, {prefix: /v1/a}, {exact: /v1}]", []),
        ("path: {prefix: /v1/}", "paths: [{exact: /v1}, {prefix: /v1}]", []),
        ("path: {prefix: /v1}", "paths: [{prefix: /v11}]", ["0: never matches: its route"]),
        ("path: {exact: /a}", "paths: [{exact: /a/}, {prefix: /a/b}]", ["0: never", "1: never"]),
        ("path: {exact: /a}", "paths: [{exact: /a}, {prefix: /a}, {prefix: /}]", []),
        ("path: {exact: /a}", "paths: [{regex: /b}]", []),
        ("path: {regex: /a}", "paths: [{exact: /b}]", []),
        ("path: {prefix: /%61dmin}", "paths: [{exact: /admin}]", []),
        ("path: {prefix: /admin}", "paths: [{exact: //admin}, {exact: /x/../admin}]", []),
        ("methods: [GET, HEAD]", "methods: [PUT, POST]", ["methods: never holds: its route"]),
        ("methods: [GET, HEAD]", "methods: [PUT, GET]", []),
        ("methods: [GET]", "methods: [CONNECT]", []),
        ("host: a.test", "methods: [PUT], paths: [{exact: /a}]", []),
    ],
)
def test_rules_of_what_does_not_get_to_their_route(match: str, rule: str, lines: list[str]) -> None:
    text = config(f"name: a, {rule}", edge="").replace(
        "  respond", f"  match: {{{match}}}\n  respond"
    )
    found = told(text)
    assert len(found) == len(lines), found
    assert all(one.startswith(line) for one, line in zip(found, lines, strict=True)), found


@pytest.mark.parametrize(
    ("binds", "networks", "line"),
    [
        (["/run/a", "/run/b"], "10.0.0.0/8", "networks: never holds: clients of a unix socket"),
        (["/run/a", "a:1"], "10.0.0.0/8", None),
        (["/run/a"], "10.0.0.0/8, unix", None),
        (["a:1", "a:2"], "unix", "networks: never holds: none of its listeners is a unix socket"),
        (["a:1", "/run/a"], "unix", None),
        (["a:1"], "unix, 10.0.0.0/8", None),
        (["/run/a, client_address: {trusted_hops: 1}"], "10.0.0.0/8", None),
        (["/run/a, client_address: {trusted: [unix]}"], "10.0.0.0/8", None),
        (["/run/a, proxy_protocol: {trusted: [unix]}"], "10.0.0.0/8", None),
    ],
)
def test_networks_where_nobody_has_such_an_address(
    binds: list[str], networks: str, line: str | None
) -> None:
    listeners = "".join(
        f"  l{n}: {{bind: {'unix:' if bind[0] == '/' else ''}{bind}}}\n"
        for n, bind in enumerate(binds)
    )
    text = config(f"name: a, networks: [{networks}]").replace(
        "listeners:\n", f"listeners:\n{listeners}"
    )
    found = told(text)
    assert len(found) == (line is not None), found
    assert line is None or found[0].startswith(line)


def test_a_star_is_a_method() -> None:
    text = config("name: a, methods: [GET, '*']", edge="")
    text = text.replace("  respond", "  match: {methods: ['*']}\n  respond")
    line = "* is a method of that name, and does not stand for any"
    assert told(text, any_methods) == [f"0: {line}", f"1: {line}"]


def shadows(listener: list[str], *routes: list[str]) -> list[str]:
    """Where it is told of, and what: of layers that are `on` or `off`, and of a listener that no
    route serves but by name."""

    def layers(shadows: list[str]) -> str:
        rules = "rules: [{name: a, methods: [GET]}]"
        return ", ".join(f"allow: {{shadow: {each}, {rules}}}" for each in shadows)

    lines = ["version: 1", "listeners:", f"  edge: {{bind: 'a:1', layers: [{layers(listener)}]}}"]
    lines += ["  other: {bind: 'a:2'}", "routes:"]
    for number, each in enumerate(routes):
        host = f"match: {{host: h{number}.test}}"
        lines.append(f"- {{name: r{number}, {host}, respond: {{}}, layers: [{layers(each)}]}}")
    loaded = load_bytes("\n".join([*lines, ""]).encode(), "m", None, secrets=False).config
    found = [(problem.steps, problem.message) for problem in shadows_alone(loaded)]
    return [
        f"{steps[0]}[{steps[3 if steps[0] == 'listeners' else 1]}]: {message}"
        for steps, message in found
    ]


ALONE = "nothing is refused: every allow is in shadow"
AT_OTHER = "nothing is refused at listener 'other': every allow is in shadow"


@pytest.mark.parametrize(
    ("listener", "routes", "lines"),
    [
        (["on"], [[]], [f"listeners[0]: {ALONE}"]),
        (["on", "on"], [[], []], [f"listeners[0]: {ALONE}"]),
        (["off", "on"], [[]], []),
        (["on", "off"], [[], ["on"]], ["routes[1]: " + AT_OTHER]),
        (["off"], [["on"]], ["routes[0]: " + AT_OTHER]),
        ([], [["on"], []], ["routes[0]: " + ALONE]),
        ([], [["off"], ["on", "off"]], []),
        ([], [[]], []),
    ],
)
def test_layers_in_shadow_with_none_that_refuses(
    listener: list[str], routes: list[list[str]], lines: list[str]
) -> None:
    assert shadows(listener, *routes) == lines


def test_it_is_told_which_routes_a_listener_s_shadow_leaves_open() -> None:
    (line,) = shadows(["on"], ["off"], [], [])[:1]
    assert line == (
        "listeners[0]: nothing is refused of routes[1] 'r1' and 1 more: every allow is in shadow"
    )


@pytest.mark.parametrize(
    ("value", "auth", "is_told"),
    [("append", "", True), ("append", ASKS, False), ("forward", "", False)],
)
def test_certificates_that_nobody_shows(value: str, auth: str, is_told: bool) -> None:
    text = config("name: a, methods: [GET]", edge=auth)
    text = text.replace("bind:", f"forwarded_client_cert: {value}, bind:")
    line = "forwarded_client_cert: append: no client is asked for a certificate there"
    found = told(text, unasked_certificates)
    assert [one.startswith(line) for one in found] == [True] * is_told
