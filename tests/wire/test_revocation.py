"""Lists of revoked certificates count for everybody whom they may be about, in both roles."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from meshcore import Proxy
from meshcore.config.load import load_text
from meshcore.config.warnings.certificates import certificates as warnings
from tests.wire.conftest import Certificates, Run
from tests.wire.either import asking, request, service
from tests.wire.h2_mesh import Mesh
from tests.wire.identities import Holder, Point, Signer, below, directory, point_of
from tests.wire.test_identity import BOTH, alert, answer, from_, logged, mesh, running

HERE, ELSEWHERE = "http://lists.example/1.crl", "ldap://lists.example/2"
DAY = datetime.timedelta(days=1)
OTHER_POINT = "is of another distribution point"

# How the list is made, the certificate's own point, what one gets that is in it, and what another.
CASES: dict[str, tuple[dict[str, Any], Point | None, str | None, str | None]] = {
    "the issuer in a string of another kind": ({"spelt": "one"}, None, "revoked", None),
    "the issuer in another case and with other spaces": (
        {"spelt": " oNE "},
        None,
        "revoked",
        None,
    ),
    "the certificate's own point": ({"point": point_of(HERE)}, HERE, "revoked", None),
    "a point, and a certificate without one": ({"point": point_of(HERE)}, None, "revoked", None),
    "a point of its users": ({"point": point_of(HERE, users=True)}, HERE, "revoked", None),
    "another point": ({"point": point_of(ELSEWHERE)}, HERE, "unknown_ca", "unknown_ca"),
    "no point, and a certificate with one": ({}, HERE, "revoked", None),
    "a list of authorities alone": ({"point": point_of(HERE, authorities=True)}, HERE, None, None),
    "authorities alone, and no point": (
        {"point": point_of(None, authorities=True)},
        None,
        None,
        None,
    ),
    "users alone, and no point": ({"point": point_of(None, users=True)}, HERE, "revoked", None),
    "a point of a directory": (
        {"point": point_of(directory("lists", "1"))},
        directory("LISTS", "1"),
        "revoked",
        None,
    ),
    "another of the directory": (
        {"point": point_of(directory("lists", "1"))},
        directory("lists", "2"),
        "unknown_ca",
        "unknown_ca",
    ),
    "a point below the issuer": ({"point": point_of(below("1"))}, below("1"), "revoked", None),
    "the same, written out": (
        {"point": point_of(below("1"))},
        directory("one", "1"),
        "revoked",
        None,
    ),
    "another below the issuer": (
        {"point": point_of(below("1"))},
        below("2"),
        "unknown_ca",
        "unknown_ca",
    ),
}
EACH = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.fixture
def signer(tmp_path: Path, certificates: Certificates) -> Signer:
    return Signer(tmp_path, "one", certificates)


def holders(signer: Signer, listed_at: Point | None) -> tuple[Holder, Holder]:
    return tuple(signer.issue("dns:a.example", listed_at=listed_at) for _ in "ab")  # type: ignore[return-value]  # two


@EACH
@BOTH
def test_a_client_that_a_list_may_be_about(
    run: Run, certificates: Certificates, signer: Signer, protocol: str, case: Any
) -> None:
    made_as, listed_at, revoked_gets, other_gets = case
    revoked, other = holders(signer, listed_at)
    auth = {"ca": signer.ca, "crl": signer.revoke(revoked, **made_as)}
    comes_in(run, certificates, auth, protocol, {revoked: revoked_gets, other: other_gets})


@EACH
@BOTH
def test_an_endpoint_that_a_list_may_be_about(
    run: Run, signer: Signer, capsys: pytest.CaptureFixture[str], protocol: str, case: Any
) -> None:
    made_as, listed_at, revoked_gets, other_gets = case
    revoked, other = holders(signer, listed_at)
    tls = {"ca": signer.ca, "peer": {"san": "dns:a.example"}}
    tls |= {"crl": signer.revoke(revoked, **made_as)}

    async def main() -> None:
        for who, gets in ((revoked, revoked_gets), (other, other_gets)):
            async with service(protocol, answer, who) as origin:  # type: ignore[arg-type]  # as of it
                made = Mesh("native", origin.port).to(protocol, tls=tls).via(retry="off")
                made.top["access_log"] = "json"
                async with (
                    running(made) as proxy,
                    asking("http1", proxy.addresses["edge"]) as ask,
                ):
                    status = (await ask(request())).status
                    assert status == (200 if gets is None else 502)

    run(main())
    if other_gets is not None:
        assert all(OTHER_POINT in line["detail"] for line in logged(capsys))


@pytest.mark.parametrize(
    ("point", "of_another", "says"),
    [
        (None, False, None),
        (point_of(HERE), False, None),
        (point_of(HERE, authorities=True), False, "is of authorities alone"),
        (None, True, "is of none of the authorities"),
    ],
    ids=["all", "a point", "authorities", "another's"],
)
def test_a_list_that_is_about_nobody_who_comes_is_told_of(
    tmp_path: Path,
    certificates: Certificates,
    signer: Signer,
    point: x509.IssuingDistributionPoint | None,
    of_another: bool,
    says: str | None,
) -> None:
    lists = Signer(tmp_path, "two", certificates) if of_another else signer
    auth = {"ca": signer.ca, "crl": lists.revoke(lists.issue("dns:x"), point=point)}
    config = load_text(str(mesh(certificates, auth, 1)))
    told = [fault.message for fault in warnings(config) if "crl" in fault.path]
    assert [message for message in told if "expires" not in message] == (
        [] if says is None else [message for message in told if says in message]
    )
    assert says is None or any(says in message for message in told)


# Which certificate is believed as it is, its issuer's list, and what whoever has it gets.
GIVEN: dict[str, tuple[bool, dict[str, Any], bool, str | None]] = {
    "itself, behind the date": (True, {"ends_in": -DAY}, False, None),
    "itself, taken back": (True, {}, True, "certificate_unknown"),
    "itself, and another point": (True, {"point": point_of(HERE)}, False, None),
    "signed by another, behind the date": (False, {"ends_in": -DAY}, False, "unknown_ca"),
    "signed by another, of authorities behind the date": (
        False,
        {"ends_in": -DAY, "point": point_of(None, authorities=True)},
        False,
        None,
    ),
    "signed by another, taken back": (False, {}, True, "unknown_ca"),
}


@pytest.mark.parametrize("case", GIVEN.values(), ids=GIVEN)
@BOTH
def test_a_certificate_that_is_believed_as_it_is(
    run: Run, certificates: Certificates, signer: Signer, protocol: str, case: Any
) -> None:
    is_own, made_as, is_revoked, gets = case
    who = signer.itself() if is_own else signer.issue("dns:a.example")
    crl = signer.revoke(*([who] if is_revoked else []), **made_as)
    comes_in(run, certificates, {"ca": who.cert, "crl": crl}, protocol, {who: gets})


def comes_in(
    run: Run, certificates: Certificates, auth: dict[str, Any], protocol: str, all_get: Any
) -> None:
    """What each client gets, ``None`` for being let in."""

    async def main() -> None:
        async with (
            service("http1", answer) as origin,
            Proxy(load_text(str(mesh(certificates, auth, origin.port)))) as proxy,
        ):
            for who, gets in all_get.items():
                if gets is not None:
                    assert gets in await alert(who, proxy)
                    continue
                async with from_(who, protocol, proxy) as ask:
                    assert (await ask(request())).status == 200

    run(main())


@BOTH
def test_a_list_is_of_the_authority_whose_key_signed_it(
    run: Run, certificates: Certificates, tmp_path: Path, signer: Signer, protocol: str
) -> None:
    (tmp_path / "other").mkdir()
    other = Signer(tmp_path / "other", "one", certificates)  # of the same name
    revoked, same_number = signer.issue("dns:a.example"), other.issue("dns:a.example")
    good, taken_back = signer.issue("dns:b.example"), other.issue("dns:b.example")
    both = [signer.ca, other.ca]
    auth: dict[str, Any] = {"ca": both, "crl": signer.revoke(revoked)}
    comes_in(
        run,
        certificates,
        auth,
        protocol,
        {revoked: "revoked", same_number: None, good: None, taken_back: None},
    )
    auth = {"ca": both, "crl": [signer.revoke(revoked), other.revoke(taken_back)]}
    comes_in(
        run,
        certificates,
        auth,
        protocol,
        {revoked: "revoked", same_number: None, good: None, taken_back: "revoked"},
    )
