"""A status tells of `allow` that refuses nothing, wherever it stands, and of each place once."""

from __future__ import annotations

import pytest

from meshcore.config.compile import compile
from meshcore.config.load import load_text
from meshcore.process import shadows

RULES = "rules: [{name: a, methods: [GET]}]"
TEXT = f"""
version: 1
listeners:
  edge: {{bind: 'a:1', layers: [allow: {{shadow: on, {RULES}}}, allow: {{shadow: on, {RULES}}}]}}
  other: {{bind: 'a:2', layers: [in_flight: {{max: 1}}, allow: {{{RULES}}}]}}
  bare: {{bind: 'a:3'}}
routes:
  - name: r
    match: {{host: [a.test, b.test]}}
    respond: {{}}
    layers: [allow: {{shadow: on, {RULES}}}]
  - {{name: s, respond: {{}}, layers: [allow: {{{RULES}}}]}}
"""


def test_layers_in_shadow_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    resources = compile(load_text(TEXT)).resources
    places = [{"listener": "edge", "route": None}, {"listener": None, "route": "r"}]
    assert shadows.overview(resources) == {"shadows": places, "shadows_left_out": 0}
    monkeypatch.setattr(shadows, "MOST", 1)
    assert shadows.overview(resources) == {"shadows": places[:1], "shadows_left_out": 1}
