"""Who makes place when too many handshakes are under way: in any order of events."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from meshcore.downstream.handshakes import SLOW_NS, Handshakes

CROWDS = st.integers(0, 4)
STEP = st.one_of(
    st.tuples(st.just("begin"), CROWDS),
    st.tuples(st.just("end"), st.integers(0, 40)),
    st.tuples(st.just("rename"), st.integers(0, 40), CROWDS),
    st.tuples(st.just("pass_on"), st.integers(0, 40)),
    st.tuples(st.just("has_begun"), st.integers(0, 40)),
)


def test_of_the_largest_crowd_the_one_goes_that_is_silent_for_longest() -> None:
    handshakes: Handshakes[str] = Handshakes()
    for holder, crowd in [("a", 1), ("b", 2), ("c", 2), ("d", 3), ("e", 2)]:
        handshakes.begin(holder, crowd, 0)
    assert handshakes.next_to_go(0) == "b"
    assert handshakes.end("b")
    assert not handshakes.end("b")
    assert handshakes.next_to_go(0) == "c"
    assert handshakes.end("c")
    assert handshakes.next_to_go(0) == "a"  # all have one: who came first


def test_what_is_begun_is_not_given_up_for_what_is_not() -> None:
    """More come than there is time for: each newcomer ended what was nearest to its end."""
    handshakes: Handshakes[int] = Handshakes()
    for number in range(3):
        handshakes.begin(number, 1, 0)
        handshakes.has_begun(number)
    assert handshakes.next_to_go(0) == 2
    handshakes.begin(3, 1, 0)
    assert handshakes.next_to_go(0) == 3
    for number in (4, 5):
        handshakes.begin(number, 2, 0)
    assert handshakes.next_to_go(0) == 3
    handshakes.has_begun(3)
    assert handshakes.next_to_go(0) == 3


def test_who_is_slow_goes_before_who_has_just_come() -> None:
    """Whoever says one byte and no more keeps out nobody who comes from the same address."""
    handshakes: Handshakes[int] = Handshakes()
    for number in range(3):
        handshakes.begin(number, 1, number)
        handshakes.has_begun(number)
    late = SLOW_NS + 1
    handshakes.begin(3, 1, late)
    assert handshakes.next_to_go(SLOW_NS) == 3
    assert handshakes.next_to_go(late) == 0
    assert handshakes.end(0)
    assert handshakes.next_to_go(late) == 3
    assert handshakes.next_to_go(2 * late) == 3  # silent for longer than that
    assert handshakes.end(3)
    assert handshakes.next_to_go(2 * late) == 1


@given(st.lists(STEP, max_size=60))
def test_who_goes_is_of_those_that_are_most(steps: list[tuple[Any, ...]]) -> None:
    handshakes: Handshakes[int] = Handshakes()
    model: dict[int, int] = {}  # holders in their order, and their crowds
    begun: dict[int, None] = {}  # in the order in which they joined these
    number = 0
    for kind, *given_ in steps:
        if kind == "begin":
            assert handshakes.begin(number, given_[0], 0) == len(model) + 1
            model[number] = given_[0]
            number += 1
        elif not model:
            continue
        else:
            holder = list(model)[given_[0] % len(model)]
            if kind == "end":
                assert handshakes.end(holder)
                del model[holder]
                begun.pop(holder, None)
            elif kind == "rename":
                handshakes.rename(holder, given_[1])
                del model[holder]
                model[holder] = given_[1]  # in its new crowd it came last
                if holder in begun:
                    del begun[holder]
                    begun[holder] = None
            elif kind == "has_begun":
                handshakes.has_begun(holder)
                begun.pop(holder, None)
                begun[holder] = None
            else:
                handshakes.pass_on(holder, number)
                model = {number if x == holder else x: crowd for x, crowd in model.items()}
                begun = {number if x == holder else x: None for x in begun}
                number += 1
        assert len(handshakes) == len(model)
        if model:
            sizes = {crowd: list(model.values()).count(crowd) for crowd in model.values()}
            most = [crowd for crowd, size in sizes.items() if size == max(sizes.values())]
            assert handshakes.next_to_go(0) in {_goes(model, begun, crowd) for crowd in most}


def _goes(model: dict[int, int], begun: dict[int, None], crowd: int) -> int:
    silent = [x for x, of in model.items() if of == crowd and x not in begun]
    return silent[0] if silent else [x for x in begun if model[x] == crowd][-1]
