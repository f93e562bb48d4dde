"""What was in force, over an upgrade too: from programs of before this one, and to later ones."""

from __future__ import annotations

import hashlib
import zlib

import pytest

from meshcore.process.history import MOST, History, Revision
from meshcore.process.inheritance import _history

TEXT = b"listeners: {a: 127.0.0.1:0}\n"


def test_a_revision_is_the_same_on_the_other_side_of_an_upgrade() -> None:
    revision = Revision.of(3, "reload", TEXT)
    assert Revision.imported(revision.exported()) == revision
    assert Revision.imported({**revision.exported(), "of_a_later_program": 1}) == revision


def test_history_of_a_program_that_told_tuples_is_read() -> None:
    packed = zlib.compress(TEXT, 1)
    found = _history({"history": [(1, 5.0, "start", packed), (2, 6.0, "reload", packed)]})
    assert [(r.version, r.unix_s, r.origin, r.document) for r in found] == [
        (1, 5.0, "start", TEXT),
        (2, 6.0, "reload", TEXT),
    ]
    assert found[0].digest == hashlib.sha256(TEXT).digest()


def test_what_is_kept_is_bounded_and_found_by_version() -> None:
    history = History([Revision.of(1, "start", b"1")])
    with pytest.raises(LookupError, match="before this one"):
        history.back(None)
    for version in range(2, MOST + 3):
        history.add(Revision.of(version, "reload", b"%d" % version))
    assert history.newest.document == b"%d" % (MOST + 2)
    assert history.back(None).version == MOST + 1
    assert history.back(3).document == b"3"
    with pytest.raises(LookupError, match="version 2 is not among the last 10: 3, 4"):
        history.back(2)
