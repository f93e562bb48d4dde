"""The steps in which a client over HTTP/2 is told to go, on a clock of their own."""

from __future__ import annotations

from meshcore.downstream.deadlines import NEVER
from meshcore.downstream.leaving import GOAWAY_NS, Leaving, Step

NOW = 7_000_000_000
TELL_BY = NOW + 15 * GOAWAY_NS
ROUND = 80_000_000


def heard(quiet: bool) -> Leaving:
    leaving = Leaving(NOW, TELL_BY)
    leaving.heard(NOW + ROUND, quiet)
    return leaving


def test_the_two_goaways_lie_a_round_trip_apart() -> None:
    leaving = heard(quiet=False)
    at = NOW + 2 * ROUND
    assert not leaving.has_warned
    assert leaving.step(at, quiet=True) is Step.WARN
    assert leaving.has_warned
    assert leaving.due_ns == at + ROUND
    assert leaving.step(at + ROUND - 1, quiet=True) is Step.NOTHING
    assert leaving.step(at + ROUND, quiet=False) is Step.SAY_LAST
    assert leaving.due_ns == NEVER
    assert leaving.step(NEVER - 1, quiet=True) is Step.NOTHING


def test_a_quiet_client_is_told_the_last_stream_at_once() -> None:
    """It may read that only behind its next request, which it can repeat then."""
    leaving = heard(quiet=True)
    assert leaving.due_ns == NOW + 2 * ROUND
    assert leaving.step(NOW + 2 * ROUND - 1, quiet=True) is Step.NOTHING
    assert leaving.step(NOW + 2 * ROUND, quiet=True) is Step.SAY_LAST
    assert leaving.has_warned
    assert leaving.due_ns == NEVER


def test_it_waits_for_the_end_of_the_last_stream() -> None:
    leaving = heard(quiet=False)
    assert leaving.due_ns == TELL_BY
    assert leaving.step(TELL_BY - 1, quiet=False) is Step.NOTHING
    assert leaving.step(TELL_BY - 1, quiet=True) is Step.WARN


def test_it_does_not_wait_for_it_for_ever() -> None:
    assert heard(quiet=False).step(TELL_BY, quiet=False) is Step.WARN


def test_who_opens_streams_hears_of_it_a_second_later() -> None:
    leaving = heard(quiet=True)
    at = NOW + 2 * ROUND - 1
    leaving.opened(at)
    leaving.opened(at + GOAWAY_NS // 2)  # the first counts
    assert leaving.due_ns == at + GOAWAY_NS
    assert leaving.step(at + GOAWAY_NS - 1, quiet=False) is Step.NOTHING
    assert leaving.step(at + GOAWAY_NS, quiet=False) is Step.WARN


def test_a_stream_opened_before_the_answer_counts() -> None:
    leaving = Leaving(NOW, TELL_BY)
    leaving.opened(NOW + 1)
    leaving.heard(NOW + ROUND, quiet=False)
    assert leaving.due_ns == NOW + 1 + GOAWAY_NS


def test_who_answers_nothing_is_told_once_or_behind_its_response() -> None:
    idle, busy = Leaving(NOW, TELL_BY), Leaving(NOW, TELL_BY)
    assert idle.step(NOW + GOAWAY_NS - 1, quiet=True) is Step.NOTHING
    assert idle.step(NOW + GOAWAY_NS, quiet=True) is Step.SAY_LAST
    assert busy.step(NOW + GOAWAY_NS, quiet=False) is Step.NOTHING
    assert busy.step(NOW + 3 * GOAWAY_NS, quiet=True) is Step.WARN
    assert busy.due_ns == NOW + 4 * GOAWAY_NS
    busy.heard(NOW + 3 * GOAWAY_NS, quiet=True)  # too late to tell anything
    assert busy.due_ns == NOW + 4 * GOAWAY_NS
