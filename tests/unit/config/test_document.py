"""Any bytes are read or refused, and what is read is what YAML 1.2 says."""

import yaml
from hypothesis import given
from hypothesis import strategies as st

from meshcore.config import document
from meshcore.config.load import load_text
from meshcore.errors import ConfigError, Diagnostic

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**18), 10**18),
    # PyYAML writes texts such as 09 and 1e5 without quotes: numbers in YAML 1.2, not in 1.1.
    st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=20).filter(
        lambda text: text[:1] not in set("+-.0123456789")
    ),
)
KEYS = st.text("abcxyz-_ :#'\"é", min_size=1, max_size=8)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@given(TREES)
def test_what_is_written_is_what_is_read(tree: object) -> None:
    text = yaml.safe_dump(tree, allow_unicode=True)
    root, problems, _ = document.parse(text)
    assert problems == []
    assert root is not None
    assert root.data == tree


@given(TREES, st.booleans())
def test_every_value_has_its_place(tree: object, flow: bool) -> None:
    text = yaml.safe_dump({"top": tree}, allow_unicode=True, default_flow_style=flow)
    root = document.parse(text).root
    lines = text.splitlines()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        assert node is not None
        for key, (line, column) in node.keys.items():
            # Where a key stands there is its text, or the quote or mark that it begins with.
            assert lines[line - 1][column - 1] in {key[0], "'", '"', "?"}
        waiting += node.children.values()


def problems(text: str) -> tuple[Diagnostic, ...]:
    try:
        load_text(text)
    except ConfigError as error:
        return error.problems
    return ()


@given(st.text(max_size=200))
def test_any_text_is_refused_with_a_place(text: str) -> None:
    found = problems(text)
    assert found
    assert all(p.line >= 1 and p.column >= 1 for p in found)


@given(st.text("ab:-[]{}&*!'\"?|>#%,\n ", max_size=80))
def test_texts_that_look_like_yaml_are_refused_with_a_place(text: str) -> None:
    found = problems(text)
    assert found
    assert all(p.line >= 1 and p.column >= 1 for p in found)


@given(TREES)
def test_any_tree_in_the_place_of_any_section_is_read_or_refused(tree: object) -> None:
    for key in ("listeners", "routes", "upstreams", "admin", "drain", "version"):
        text = yaml.safe_dump({"version": 1, "listeners": {"a": {"bind": "a:1"}}, key: tree})
        assert all(p.line >= 1 for p in problems(text))
