"""Rules of `allow` that never hold or never decide are told; others are not."""

from __future__ import annotations

import pytest

from meshcore.config.load import load_bytes
from meshcore.config.warnings.allow import rules_without_effect
from meshcore.config.warnings.paths import literal_wildcards, refused_paths

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


def told(text: str) -> list[str]:
    loaded = load_bytes(text.encode(), "m", None, secrets=False).config
    checks = (rules_without_effect, literal_wildcards, refused_paths)
    return [f"{fault.path[-1]}: {fault.message}" for check in checks for fault in check(loaded)]


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
        ("networks: ['::/0']", "networks: [10.0.0.0/8]", False),
        ("networks: [10.1.0.0/16]", "networks: [10.0.0.0/8]", False),
        ("identities: any", "identities: {san: 'dns:a.b'}", True),
        ("identities: any", "identities: any, methods: [GET]", True),
        ("identities: {san: ['dns:a.b', 'dns:c.d']}", "identities: {san: 'dns:a.b'}", True),
        ("identities: {san: 'dns:a.b'}", "identities: any", False),
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
    found = told(config(*rules, edge=ASKS))
    assert found == ["2: never decides: rules[1] 'one' holds whenever it does"] * is_told


def test_paths_are_those_of_routes() -> None:
    rule = "name: a, paths: [{prefix: '/v1/*'}, {exact: '/u/{id}'}, {regex: '/v1/.*'}]"
    assert told(config(rule, edge=ASKS)) == [
        "prefix: * stands for itself in a path, not for any text",
        "exact: {id} stands for itself in a path, not for any text",
    ]
    (line,) = told(config("name: a, paths: [{prefix: /a%2Fb}]", edge=ASKS))
    assert line == "prefix: never matches: its listeners refuse %2F in paths"
