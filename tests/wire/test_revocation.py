"""Lists of revoked certificates count for everybody whom they may be about, in both roles."""

from __future__ import annotations

import base64
import datetime
import logging
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from meshcore import ConfigError, Proxy
from meshcore.cli import main
from meshcore.config.compile import compile
from meshcore.config.load import load_text
from meshcore.config.warnings.certificates import certificates as warnings
from meshcore.process.unlisted import UnlistedAuthorities
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


@pytest.fixture
def keys(tmp_path: Path, certificates: Certificates) -> tuple[Signer, Signer]:
    """An authority's old key and its new one, of which nothing tells but signatures."""
    of = (Signer(tmp_path / x, "one", certificates, tells_keys=False) for x in ("old", "new"))
    return tuple(of)  # type: ignore[return-value]  # two


@pytest.mark.parametrize("by_domain", [False, True], ids=["ca", "domains"])
@BOTH
def test_signatures_tell_of_which_key_each_list_is(
    run: Run,
    certificates: Certificates,
    keys: tuple[Signer, Signer],
    protocol: str,
    by_domain: bool,
) -> None:
    old, new = keys
    issued = [
        (x.issue(f"spiffe://{i}.example/a"), x.issue(f"spiffe://{i}.example/b"))
        for i, x in enumerate(keys)
    ]
    (old_revoked, old_good), (new_good, new_revoked) = issued
    auth: dict[str, Any] = {"ca": [old.ca, new.ca]}
    if by_domain:
        auth = {"trust_domains": {"0.example": old.ca, "1.example": new.ca}}
    auth["crl"] = [old.revoke(old_revoked), new.revoke(new_revoked)]
    gets = {old_revoked: "revoked", old_good: None, new_good: None, new_revoked: "revoked"}
    comes_in(run, certificates, auth, protocol, gets)


@BOTH
def test_signatures_tell_which_list_is_about_one_that_is_believed_as_it_is(
    run: Run, certificates: Certificates, keys: tuple[Signer, Signer], protocol: str
) -> None:
    old, new = keys
    given, revoked = old.issue("dns:a.example"), new.issue("dns:a.example")
    assert given.serial == revoked.serial
    auth = {"ca": [old.ca, new.ca, given.cert, revoked.cert]}
    auth["crl"] = [old.revoke(), new.revoke(revoked)]
    comes_in(run, certificates, auth, protocol, {given: None, revoked: "revoked"})


def test_of_two_lists_that_nothing_tells_apart_one_is_there_by_mistake(
    certificates: Certificates, keys: tuple[Signer, Signer]
) -> None:
    old, new = keys
    crl = [old.revoke(), new.revoke()]
    with pytest.raises(ConfigError) as caught:
        load_text(str(mesh(certificates, {"ca": old.ca, "crl": crl}, 1)))
    (problem,) = caught.value.problems
    assert problem.message == (
        "two revocation lists of CN=one: give the newest alone, or for each in `ca` the "
        "certificate whose key has signed it"
    )
    again = str(Path(crl[0]).with_name("again.pem"))
    Path(again).write_bytes(Path(crl[0]).read_bytes())
    with pytest.raises(ConfigError) as caught:
        load_text(str(mesh(certificates, {"ca": [old.ca, new.ca], "crl": [crl[0], again]}, 1)))
    (problem,) = caught.value.problems
    assert problem.message == "two revocation lists of CN=one: give the newest alone"


@pytest.mark.parametrize("key_id", [None, b"as another program reckons it"])
def test_an_authority_that_is_revoked_signs_for_nobody_whatever_it_calls_keys(
    run: Run, certificates: Certificates, tmp_path: Path, signer: Signer, key_id: bytes | None
) -> None:
    """Its signature tells whose list it is in, before the identifiers do."""
    taken_back = signer.below(tmp_path, "below", key_id=key_id)
    client, other = taken_back.issue("dns:a.example"), signer.issue("dns:b.example")
    auth = {"ca": [signer.ca, taken_back.ca], "crl": signer.revoke(taken_back)}
    comes_in(run, certificates, auth, "http1", {client: "unknown_ca", other: None})
    again = str(tmp_path / "again.pem")
    Path(again).write_bytes(Path(signer.revoke()).read_bytes())
    with pytest.raises(ConfigError, match="two revocation lists of CN=one"):
        load_text(str(mesh(certificates, auth | {"crl": [auth["crl"], again]}, 1)))


@pytest.mark.parametrize("tells_keys", [False, True])
def test_a_key_that_is_spelt_in_two_ways_is_one(
    run: Run, certificates: Certificates, tmp_path: Path, tells_keys: bool
) -> None:
    """RFC 5480 §2.2: a point may be given with its second coordinate, or without."""
    one = Signer(tmp_path, "one", certificates, tells_keys=tells_keys)
    revoked, good = one.issue("dns:a.example"), one.issue("dns:b.example")
    crl, packed = one.revoke(revoked), one.packed()
    for ca in ([one.ca, packed], [packed, one.ca], [packed]):
        auth = {"ca": ca, "crl": crl}
        comes_in(run, certificates, auth, "http1", {revoked: "revoked", good: None})
        config = load_text(str(mesh(certificates, auth, 1)))
        assert [x.message for x in warnings(config) if "no list" in x.message] == []
    domains = {"trust_domains": {"0.example": packed}, "ca": one.ca, "crl": crl}
    comes_in(run, certificates, domains, "http1", {revoked: "revoked", good: None})


def test_lists_of_many_domains_whose_authorities_have_one_name_are_tied_at_once(
    certificates: Certificates, tmp_path: Path
) -> None:
    """Each by one signature or two, not by each key of each domain; 100 took 30 s."""
    signers = [Signer(tmp_path / str(n), "spire", certificates) for n in range(100)]
    lists = "".join(Path(each.revoke()).read_text() for each in signers)
    crl = tmp_path / "all.pem"
    crl.write_text(lists)
    domains = {f"{n}.example": each.ca for n, each in enumerate(signers)}
    auth = {"trust_domains": domains, "crl": str(crl)}
    config = load_text(str(mesh(certificates, auth, 1)))
    began = time.thread_time()
    Proxy(config)
    assert time.thread_time() - began < 5


@pytest.mark.parametrize("tells_keys", [False, True])
@pytest.mark.parametrize("knows_old", [False, True])
def test_an_authority_without_a_list_of_its_key_is_told_of(
    run: Run,
    certificates: Certificates,
    tmp_path: Path,
    tells_keys: bool,
    knows_old: bool,
) -> None:
    """By `check`, at the start and in the status; and what is told is so."""
    old, new = (
        Signer(tmp_path / x, "one", certificates, tells_keys=tells_keys) for x in ("old", "new")
    )
    other = Signer(tmp_path, "two", certificates)
    client = new.issue("dns:a.example")
    auth: dict[str, Any] = {"ca": [*([old.ca] if knows_old else []), new.ca, other.ca]}
    auth["crl"] = old.revoke(old.issue("dns:b.example"))
    config = load_text(str(mesh(certificates, auth, 1)))
    told = [x for x in warnings(config) if "no list is of the key" in x.message]
    is_shut_out = not (tells_keys or knows_old)
    gets = "nobody whom it signed comes in" if is_shut_out else "whom it has revoked comes in"
    assert [x.message for x in told] == [
        f"no list is of the key of CN=one (serial 01) in {new.ca}, though one is of its name: "
        f"{gets}"
    ]
    assert told[0].path == "listeners.edge.tls.client_auth.ca"
    (unlisted,) = UnlistedAuthorities().overview(compile(config), time.time())
    assert (unlisted["listener"], unlisted["authority"]) == ("edge", "CN=one (serial 01)")
    assert unlisted["comes_in"] == ("nobody" if is_shut_out else "revoked")
    assert (unlisted["list_expired"], unlisted["list_forged"]) == (None, False)
    comes_in(run, certificates, auth, "http1", {client: "unknown_ca" if is_shut_out else None})
    auth["crl"] = [auth["crl"], new.revoke(client)]
    auth["ca"] = [old.ca, new.ca]
    config = load_text(str(mesh(certificates, auth, 1)))
    assert not [x for x in warnings(config) if "no list is of the key" in x.message]
    assert UnlistedAuthorities().overview(compile(config), time.time()) == []


def test_a_list_whose_signature_is_wrong_is_named_and_not_its_clients(
    run: Run,
    certificates: Certificates,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = Signer(tmp_path, "one", certificates)
    client = one.issue("dns:a.example")
    crl = Path(one.revoke())
    der = bytearray(x509.load_pem_x509_crl(crl.read_bytes()).public_bytes(Encoding.DER))
    der[-1] ^= 1
    packed = base64.encodebytes(der).decode()
    crl.write_text(f"-----BEGIN X509 CRL-----\n{packed}-----END X509 CRL-----\n")
    auth = {"ca": one.ca, "crl": str(crl)}
    config = load_text(str(mesh(certificates, auth, 1)))
    (told,) = [x for x in warnings(config) if "a list says" in x.message]
    assert told.path == "listeners.edge.tls.client_auth.crl"
    assert told.message == (
        f"a list says that {AUTHORITY} in {one.ca} has signed it, and its signature is wrong: "
        "nobody whom that signed comes in"
    )
    (unlisted,) = UnlistedAuthorities().overview(compile(config), time.time())
    told_of = unlisted["authority"], unlisted["comes_in"], unlisted["list_forged"]
    assert told_of == (AUTHORITY, "nobody", True)
    none: dict[str, Any] = {"listeners": {}, "workers": [], "history": []}
    answer = {"unlisted_authorities": [unlisted], "ready": True, "pid": 1, "version": "1"} | none
    monkeypatch.setattr("meshcore.cli.order.ask", lambda *_: answer)
    shown = CliRunner().invoke(main, ["status", one.ca]).output
    assert (
        f"authority {AUTHORITY} of listener edge: the SIGNATURE of its revocation list IS WRONG, "
        "nobody whom it signed comes in\n"
    ) in shown
    with caplog.at_level(logging.INFO, "meshcore.tls"):
        comes_in(run, certificates, auth, "http1", {client: "unknown_ca"})
    (line,) = caplog.messages
    assert "the revocation list of the certificate's issuer is not signed by its key" in line


AUTHORITY = "CN=one (serial 01)"


@pytest.mark.parametrize("expired", ["refuse", "use"])
def test_an_authority_whose_list_runs_out_is_told_of_from_then_on(
    certificates: Certificates, tmp_path: Path, expired: str
) -> None:
    """And one that signs for nobody any more is not."""
    one, two = (Signer(tmp_path, name, certificates) for name in ("one", "two"))
    auth = {"ca": [one.ca, two.ca], "crl": [one.revoke(ends_in=DAY), two.revoke(ends_in=3 * DAY)]}
    snapshot = compile(load_text(str(mesh(certificates, auth | {"crl_expired": expired}, 1))))
    authorities, now_s = UnlistedAuthorities(), time.time()

    def told(later: datetime.timedelta) -> list[tuple[str, str, bool]]:
        found = authorities.overview(snapshot, now_s + later.total_seconds())
        return [(x["authority"], x["comes_in"], x["list_expired"] is None) for x in found]

    ran_out = [(AUTHORITY, "nobody", False)] if expired == "refuse" else []
    assert told(0 * DAY) == told(DAY / 2) == []
    assert told(DAY + DAY / 10) == ran_out
    both = [*ran_out, ("CN=two (serial 01)", "nobody", False)]
    assert told(3 * DAY + DAY / 10) == (both if ran_out else [])
    assert told(40_000 * DAY) == []
    # By the end of that second there is to be another (RFC 5280 §5.1.2.5).
    due_s = min(x.next_update_s or 0 for x in authorities.lists(snapshot))
    for later_s, is_over in ((0.0, False), (0.9, False), (1.0, True)):
        first, _ = authorities.lists_overview(snapshot, due_s + later_s)
        assert first["expired"] is is_over
        assert bool(authorities.overview(snapshot, due_s + later_s)) is (is_over and bool(ran_out))
        is_told = any(x.is_expired(due_s + later_s) for x in authorities.lists(snapshot))
        assert is_told is (is_over and bool(ran_out))
