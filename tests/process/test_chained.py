"""Random requests through two proxies in a row: whatever anybody does, nobody gets what is not his.

`CHAINED_SECONDS` says for how long, `CHAINED_SEED` repeats what is asked; `make chained` takes a
minute.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.process.chained.run import Run

SECONDS = float(os.environ.get("CHAINED_SECONDS", "8"))
SEED = int(os.environ.get("CHAINED_SEED", "0")) or random.randrange(1, 1 << 32)


@pytest.mark.alone
@pytest.mark.timeout(SECONDS * 2 + 120)
def test_no_answer_is_foreign(tmp_path: Path) -> None:
    print(f"CHAINED_SEED={SEED}")
    run = Run(tmp_path, SEED, SECONDS)
    book = run.all()
    asked = len(book.records)
    print(f"{asked} requests, {asked / SECONDS:.0f}/s, {run.reloads} reloads")
    print(f"{dict(sorted(book.counts.items()))}\nmistakes of endpoints: {dict(book.met)}")
    assert not book.faults, f"CHAINED_SEED={SEED}\n" + "\n".join(book.faults + book.told)
    assert asked > 20 * SECONDS
    assert book.counts["answers: answer"] > asked / 3
