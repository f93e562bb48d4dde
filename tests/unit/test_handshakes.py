"""Who makes place when too many handshakes are under way: in any order of events."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from meshcore.downstream.handshakes import Handshakes

CROWDS = st.integers(0, 4)
STEP = st.one_of(
    st.tuples(st.just("begin"), CROWDS),
    st.tuples(st.just("end"), st.integers(0, 40)),
    st.tuples(st.just("rename"), st.integers(0, 40), CROWDS),
    st.tuples(st.just("pass_on"), st.integers(0, 40)),
)


def test_of_the_largest_crowd_the_eldest_goes() -> None:
    handshakes: Handshakes[str] = Handshakes()
    for holder, crowd in [("a", 1), ("b", 2), ("c", 2), ("d", 3), ("e", 2)]:
        handshakes.begin(holder, crowd)
    assert handshakes.eldest() == "b"
    assert handshakes.end("b")
    assert not handshakes.end("b")
    assert handshakes.eldest() == "c"
    assert handshakes.end("c")
    assert handshakes.eldest() == "a"  # all have one: who came first


@given(st.lists(STEP, max_size=60))
def test_who_goes_is_who_waited_longest_of_those_that_are_most(
    steps: list[tuple[Any, ...]],
) -> None:
    handshakes: Handshakes[int] = Handshakes()
    model: dict[int, int] = {}  # holders in their order, and their crowds
    number = 0
    for kind, *given_ in steps:
        if kind == "begin":
            handshakes.begin(number, given_[0])
            model[number] = given_[0]
            number += 1
        elif not model:
            continue
        else:
            holder = list(model)[given_[0] % len(model)]
            if kind == "end":
                assert handshakes.end(holder)
                del model[holder]
            elif kind == "rename":
                handshakes.rename(holder, given_[1])
                del model[holder]
                model[holder] = given_[1]  # in its new crowd it came last
            else:
                handshakes.pass_on(holder, number)
                model = {number if x == holder else x: crowd for x, crowd in model.items()}
                number += 1
        assert len(handshakes) == len(model)
        if model:
            sizes = {crowd: list(model.values()).count(crowd) for crowd in model.values()}
            most = [crowd for crowd, size in sizes.items() if size == max(sizes.values())]
            eldest = {next(x for x in model if model[x] == crowd) for crowd in most}
            assert handshakes.eldest() in eldest
