"""The processes that hammer a shared bucket, table and breaker.

Started with: what to hammer, the name of the state, a folder, a seat and a number of their own.
"""

from __future__ import annotations

import random
import sys
import time
from itertools import count
from pathlib import Path
from typing import Final

import meshcore
from tests.process.hammer.ledger import Events, Ledger

# It takes 40 s without anybody to fill it again: so that no token is ever lost for being too many.
BUCKET: Final = ("500/s", 20_000)
CLIENT: Final = ("200/s", 300)
CLIENTS: Final = [f"192.0.2.{n}" for n in range(8)]
TABLE: Final = 256

ADMITTED, TRIED, FIRST_CLIENT = 0, 1, 2
COUNTS: Final = FIRST_CLIENT + len(CLIENTS)

# The breaker's lease for a probe is 30 s of its clock: with a quicker clock it can be seen to end.
QUICKER: Final = 32
LEASE_NS: Final = 30_000_000_000 // QUICKER
OPEN_NS: Final = 2_000_000_000 // QUICKER
PROBES: Final = 2

ASKED, GOT, SUCCEEDING, SUCCEEDED, FAILING, FAILED = range(6)


def bucket_of(state: meshcore.SharedState) -> meshcore.TokenBucket:
    """The one bucket."""
    return state.token_bucket("api", *BUCKET)


def breaker_of(state: meshcore.SharedState) -> meshcore.CircuitBreaker:
    """The one breaker. So many successes in a row that close it do not happen: probing goes on."""
    return state.circuit_breaker(
        "db",
        successes=1_023,
        probes=PROBES,
        open_for="2s",
        max_open_for="2s",
        clock=lambda: QUICKER * time.monotonic_ns(),
    )


def limit(state: meshcore.SharedState, ledger: Ledger, seat: int, dice: random.Random) -> None:
    """Take what there is of the bucket, and of each client's."""
    bucket = bucket_of(state)
    clients = state.client_limiter("clients", *CLIENT, clients=TABLE)
    for turn in count():
        ledger.add(seat, TRIED)
        if bucket.try_acquire():
            ledger.add(seat, ADMITTED)
        number = turn % len(CLIENTS)
        if clients.try_acquire(CLIENTS[number]):
            ledger.add(seat, FIRST_CLIENT + number)
        if turn % 4 == 0:  # strangers, who take over what is not in use and fill lines
            clients.try_acquire(f"2001:db8::{dice.randrange(1 << 16):x}")
        if turn % 400 == 0:
            time.sleep(0.001)


def probe(state: meshcore.SharedState, events: Events, dice: random.Random) -> None:
    """Ask for leave, hold it for some milliseconds, and say how it went."""
    breaker = breaker_of(state)
    now = time.monotonic_ns
    while True:
        asked_ns = now()
        try:
            permit = breaker.acquire()
        except meshcore.BreakerOpen:
            time.sleep(0.001)
            continue
        got_ns = now()
        events.say(ASKED, asked_ns)
        events.say(GOT, got_ns)
        time.sleep(dice.uniform(0.0, 0.02))
        fails = dice.random() < 1 / 40
        events.say(FAILING if fails else SUCCEEDING, now())
        if fails:
            permit.failure()
        else:
            permit.success()
        events.say(FAILED if fails else SUCCEEDED, now())


def main() -> None:
    """Until killed."""
    kind, name, folder, seat, number = sys.argv[1:]
    dice = random.Random(int(number))
    state = meshcore.SharedState(name)
    if kind == "limit":
        limit(state, Ledger(Path(folder) / "ledger", COUNTS), int(seat), dice)
    else:
        probe(state, Events(Path(folder) / f"{number}.events"), dice)


if __name__ == "__main__":
    main()
