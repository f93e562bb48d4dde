"""Which requests a mesh under test lets pass, by whose certificate and which rule."""

import re
from pathlib import Path

import pytest

from meshcore.config.allow import Allow, AllowRule, Identities
from meshcore.testing import Mesh

GUIDE = (Path(__file__).parents[3] / "docs" / "authorization.md").read_text()
WEB = "spiffe://td/ns/a/sa/web"
TEXT = """
version: 1
listeners: {edge: {bind: "127.0.0.1:1", layers: [allow: {shadow: on, rules: [
  {name: known, identities: any}]}]}}
routes:
  - name: api
    upstream: api
    layers:
      - allow:
          rules:
            - {name: web, identities: {spiffe: "spiffe://td/ns/*/sa/web"}, methods: [GET]}
            - {name: named, identities: {san: ["dns:*.example", "ip:10.0.0.0/8"]}}
            - {name: office, networks: [192.0.2.0/24, unix]}
upstreams: {api: {endpoints: ["127.0.0.1:2"]}}
"""


@pytest.mark.parametrize(
    ("method", "identity", "client", "rules"),
    [
        ("GET", WEB, "198.51.100.1", ("shadow:known", "web")),
        ("PUT", WEB, "198.51.100.1", ("shadow:known", "none")),
        ("GET", [WEB, "dns:a.example"], "198.51.100.1", ("shadow:known", "web")),
        ("PUT", [WEB, "dns:A.example"], "198.51.100.1", ("shadow:known", "named")),
        ("PUT", "dns:a.b.example", "198.51.100.1", ("shadow:known", "none")),
        ("PUT", "ip:10.9.9.9", "198.51.100.1", ("shadow:known", "named")),
        ("PUT", "dns:*.example", "198.51.100.1", ("shadow:known", "named")),
        ("PUT", [], "198.51.100.1", ("shadow:known", "none")),
        ("PUT", None, "198.51.100.1", ("shadow:none", "none")),
        ("PUT", None, "192.0.2.9", ("shadow:none", "office")),
        ("PUT", None, None, ("shadow:none", "office")),
    ],
)
def test_a_decision_says_which_rule_holds(
    method: str, identity: str | list[str] | None, client: str | None, rules: tuple[str, ...]
) -> None:
    asked = Mesh(TEXT).decide(f"{method} http://a.test/", identity=identity, client=client)
    assert asked.rules == rules
    if rules[-1] == "none":
        told = (asked.status, asked.reason, asked.decided_by)
        assert told == (403, "forbidden", "routes[0].layers[0].allow")
    else:
        assert asked.forwarded


def test_a_limit_by_identity_counts_whose_certificate_it_is() -> None:
    limit = "[limit: {rate: 1/h, burst: 1, key: identity}]"
    text = TEXT.replace("[allow: {shadow: on, rules: [\n  {name: known, identities: any}]}]", limit)
    mesh = Mesh(text)
    for identity, reason in ((WEB, None), (WEB, "rate_limited"), ("dns:a.example", None)):
        assert mesh.decide("GET http://a.test/", identity=identity).reason == reason


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ("web", "expected spiffe://…"),
        ("spiffe://td", "has no path"),
        ("spiffe://TD/web", "SPIFFE-ID §2"),
        ([WEB, "uri:https://a.example/"], "only URI"),
        ([WEB, WEB], "only URI"),
        (f"uri:{WEB}", "expected"),
        ("dns:a b", "no DNS name"),
        ("dns:*", "no DNS name"),
        ("ip:10.0.0.0/8", "no address"),
        ("email:jo", "expected"),
        ("", "expected"),
    ],
)
def test_names_that_no_certificate_has(names: str | list[str], why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        Mesh(TEXT).decide("GET http://a.test/", identity=names)


def test_connect_has_no_path() -> None:
    for rule, passes in (
        ("methods: [CONNECT]", True),
        ("paths: [{regex: '.*'}]", True),
        ("paths: [{prefix: /}]", False),
        ("paths: [{exact: /}]", False),
    ):
        text = f"""
version: 1
listeners: {{edge: {{bind: "127.0.0.1:1", layers: [allow: {{rules: [{{name: a, {rule}}}]}}]}}}}
routes: [{{name: api, upstream: api, upgrade: [connect]}}]
upstreams: {{api: {{endpoints: ["127.0.0.1:2"]}}}}
"""
        assert Mesh(text).decide("CONNECT a.test:443").forwarded == passes, rule


def test_the_guide_is_true() -> None:
    (config,) = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    config = f"version: 1\n{config}routes: [{{name: all, respond: {{}}}}]\n"
    exec(code.replace('"mesh.yaml"', "CONFIG"), {"CONFIG": config})
    words = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`\n]+)`", GUIDE))))
    for model in (Allow, AllowRule, Identities):
        assert set(model.model_fields) <= words
