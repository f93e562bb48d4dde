"""What is read from the suites' reports, and when a score is full."""

from __future__ import annotations

import json

import pytest

from tests.conformance import autobahn, h2spec, peers, sslyze, testssl, tls_listeners
from tests.conformance.peer_programs import ASK, alert_in
from tests.conformance.score import Case, Outcome, full

JUNIT = """<?xml version="1.0" encoding="UTF-8"?>
<testsuites>
  <testsuite name="3.5. HTTP/2 Connection Preface" package="http2/3.5" id="3.5" tests="3">
    <testcase package="http2/3.5" classname="Sends client connection preface"></testcase>
    <testcase package="http2/3.5" classname="Sends invalid connection preface">
      <error>GOAWAY Frame
Connection closed
Timeout</error>
    </testcase>
    <testcase package="http2/3.5" classname="Sends nothing"><skipped></skipped></testcase>
  </testsuite>
</testsuites>
"""


def test_h2spec_tells_what_passed_what_came_instead_and_what_was_left_out() -> None:
    assert h2spec.parse(JUNIT) == [
        Case("http2/3.5 Sends client connection preface", "passed"),
        Case(
            "http2/3.5 Sends invalid connection preface",
            "failed",
            "got Timeout, expected GOAWAY Frame or Connection closed",
        ),
        Case("http2/3.5 Sends nothing", "skipped"),
    ]


def test_autobahn_fails_what_the_proxy_changes_or_loses_and_skips_what_fails_without_it() -> None:
    said = {"behavior": "OK", "behaviorClose": "OK", "remoteCloseCode": 1000}
    unclosed, wrong = {**said, "remoteCloseCode": None}, {**said, "behavior": "FAILED"}
    found = autobahn.verdicts(
        json.dumps(
            {
                "direct": {"1.1.10": said, "1.1.2": said, "2.1": wrong},
                "proxied": {
                    "1.1.10": unclosed,
                    "2.1": wrong,
                },
            }
        )
    )
    cases = autobahn.compared(found["direct"], found["proxied"])
    assert [(case.name, case.outcome) for case in cases] == [
        ("1.1.2", "failed"),
        ("1.1.10", "failed"),
        ("2.1", "skipped"),
    ]
    assert cases[1].detail == "directly OK OK 1000, through the proxy OK OK None"


@pytest.mark.parametrize(
    ("outcomes", "expected", "is_full"),
    [
        (["passed", "skipped"], 2, True),
        (["passed", "failed"], 2, False),
        (["passed"], 2, False),
        (["skipped"], 1, False),
        ([], 1, False),
    ],
)
def test_a_score_is_full_when_all_ran_some_passed_and_none_failed(
    outcomes: list[Outcome], expected: int, is_full: bool
) -> None:
    assert full("suite", [Case("a", outcome) for outcome in outcomes], expected) is is_full


def scanned(offer: tls_listeners.Offer) -> sslyze.Scan:
    """A scan of what is to be offered."""
    old = {key: set[str]() for key in sslyze.OLD}
    suites_1_2 = sslyze.SUITES_1_2
    of_1_2 = {f"TLS_ECDHE_{kind}_WITH_{suite}" for kind in offer.kinds for suite in suites_1_2}
    new = {"tls_1_3": sslyze.SUITES_1_3, "tls_1_2": of_1_2 if offer.policy != "modern" else set()}
    results: dict[str, object] = {
        f"{version}_cipher_suites": {
            "accepted_cipher_suites": [{"cipher_suite": {"name": suite}} for suite in suites]
        }
        for version, suites in {**old, **new}.items()
    }
    results["elliptic_curves"] = {"supported_curves": [{"name": curve} for curve in sslyze.CURVES]}
    flaws = sslyze.FLAWS | sslyze.OF_1_2
    results |= {test: {field: right} for test, (field, right) in flaws.items()}
    return {name: {"status": "COMPLETED", "result": each} for name, each in results.items()}


@pytest.mark.parametrize("offer", tls_listeners.OFFERS, ids=lambda offer: offer.name)
def test_sslyze_fails_what_is_offered_beside_what_is_told_and_what_did_not_end(
    offer: tls_listeners.Offer,
) -> None:
    scan = scanned(offer)
    assert {case.outcome for case in sslyze.judge(offer, scan)} == {"passed"}
    more = {"cipher_suite": {"name": "TLS_RSA_WITH_RC4_128_MD5"}}
    scan["tls_1_0_cipher_suites"]["result"]["accepted_cipher_suites"] = [more]
    scan["heartbleed"]["result"]["is_vulnerable_to_heartbleed"] = True
    scan["robot"] = {"status": "ERROR", "error_reason": "TIMEOUT", "result": None}
    failed = {case.name for case in sslyze.judge(offer, scan) if case.outcome == "failed"}
    assert failed == {"tls_1_0_cipher_suites", "heartbleed", "robot"}


@pytest.mark.parametrize("severity", ["LOW", "MEDIUM", "HIGH", "CRITICAL", "WARN", "FATAL"])
def test_testssl_fails_whatever_has_a_severity(severity: str) -> None:
    good = [testssl.Finding(id="TLS1_3", severity=each, finding="is") for each in testssl.RIGHT]
    bad = testssl.Finding(id="BEAST", severity=severity, finding="VULNERABLE")
    cases = testssl.judge([*good, bad])
    assert [case.outcome for case in cases] == ["passed", "passed", "failed"]
    assert cases[2].detail == f"{severity}: VULNERABLE"


def test_every_row_of_the_peers_is_one_that_is_known() -> None:
    found = peers.rows(peers.EXPECTED.read_text())
    assert {row.peer for row in found} == set(ASK)
    for row in found:
        assert row.what in (peers.ASKED if row.role == "client" else peers.SERVED)
        assert row.role in ("client", "server")
        assert row.expected
    assert len({row[:3] for row in found}) == len(found)
    whats = {row.what for row in found}
    assert whats == {*peers.ASKED, *peers.SERVED}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("failed: remote error: tls: certificate required", "refused: certificate required"),
        ("failed: Received fatal alert: certificate_required", "refused: certificate required"),
        (
            "error:0A000410:SSL routines::sslv3 alert handshake failure",
            "refused: handshake failure",
        ),
        ("curl: (35) tlsv1 alert protocol version", "refused: protocol version"),
        ("failed: EOF", "failed: EOF"),
    ],
)
def test_an_alert_has_one_name_in_every_library(said: str, told: str) -> None:
    assert alert_in(said) == told


def test_what_a_peer_makes_of_another_answer_is_a_failure() -> None:
    row = peers.Row("client", "go", "1.1", "refused: handshake failure")
    assert peers.judged(row, lambda: row.expected).outcome == "passed"
    case = peers.judged(row, lambda: "1.1 200")
    assert (case.outcome, case.name) == ("failed", "client go: 1.1")
