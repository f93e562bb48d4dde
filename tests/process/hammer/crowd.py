"""Processes that are killed at random and replaced."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SECONDS = float(os.environ.get("HAMMER_SECONDS", "10"))
"""How long to hammer."""

# A process imports within a second, on a busy machine within some.
START_S = 60.0


@dataclass(slots=True)
class Life:
    """One process, from its start to its end."""

    seat: int
    number: int
    process: subprocess.Popen[bytes]
    killed_ns: int = 0
    """When its end was seen, if it was killed."""


@dataclass
class Crowd:
    """Seats that are always taken. Use it in a `with`; nothing is left behind."""

    command: Callable[[int, int], Sequence[str]]
    """The arguments of the process of a seat; the second number is new for each."""
    seats: int
    pass_fds: Sequence[int] = ()
    on_start: Callable[[Life], None] = lambda _: None
    on_end: Callable[[Life], None] = lambda _: None
    lives: list[Life] = field(default_factory=list)
    present: dict[int, Life] = field(default_factory=dict)

    def __enter__(self) -> Crowd:
        for seat in range(self.seats):
            self.start(seat)
        return self

    def __exit__(self, *_: object) -> None:
        for life in list(self.present.values()):
            self.kill(life)

    def start(self, seat: int) -> None:
        """Begin a process in a free seat."""
        number = len(self.lives)
        command = [sys.executable, "-m", *self.command(seat, number)]
        root = Path(__file__).parents[3]
        process = subprocess.Popen(
            command,
            cwd=root,
            pass_fds=self.pass_fds,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        life = Life(seat, number, process)
        self.lives.append(life)
        self.present[seat] = life
        self.on_start(life)

    def kill(self, life: Life) -> None:
        """End a process, wherever it is, and see that it was not gone before."""
        life.process.send_signal(signal.SIGKILL)
        code = life.process.wait(START_S)
        life.killed_ns = time.monotonic_ns()
        del self.present[life.seat]
        for pipe in (life.process.stdin, life.process.stdout):
            if pipe is not None:
                pipe.close()
        self.on_end(life)
        assert code == -signal.SIGKILL, f"process {life.number} ended by itself: {code}"

    def hammer(
        self, dice: random.Random, seconds: float, between: Callable[[], None] = lambda: None
    ) -> int:
        """Kill and replace for so long; how often."""
        kills = 0
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(dice.uniform(0.02, 0.2))
            between()
            life = dice.choice(list(self.present.values()))
            self.kill(life)
            self.start(life.seat)
            kills += 1
        return kills
