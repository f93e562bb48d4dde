"""An open loop: `python -m benches.workers.steady HOST PORT RATE SECONDS`, a process of its own.

Requests come as those of many clients do, each on its own (exponential pauses), over connections
that are kept. Not h2load: its connections all send at the same moments. It prints how many were
answered.
"""

from __future__ import annotations

import random
import select
import socket
import sys
import threading
import time
from collections import deque

from benches.load.configs import SMALL
from benches.workers.mesh import REQUEST

CONNECTIONS = 32
PATIENCE_S = 5.0
# Of a rate that was not kept nothing can be said.
KEPT = 0.9
NOT_KEPT = 3
"""The exit code that says so."""


class Steady:
    """One thread sends, another reads."""

    def __init__(self, host: str, port: int) -> None:
        made = [socket.create_connection((host, port)) for _ in range(CONNECTIONS)]
        for each in made:
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._by_fd = {each.fileno(): each for each in made}
        self._idle = deque(made)
        self._poll = select.epoll()
        for fd in self._by_fd:
            self._poll.register(fd, select.EPOLLIN)
        self.answered = 0
        self._over = False

    def _read(self) -> None:
        while not self._over:
            for fd, _ in self._poll.poll(0.1):
                data = self._by_fd[fd].recv(65536)
                if not data.startswith(b"HTTP/1.1 200 ") or not data.endswith(SMALL.encode()):
                    raise RuntimeError(f"a request failed: {data!r}")
                self.answered += 1
                self._idle.append(self._by_fd[fd])

    def run(self, per_second: float, seconds: float) -> int:
        """How many were sent; all of them were answered."""
        chance = random.Random(7)
        reader = threading.Thread(target=self._read, daemon=True)
        reader.start()
        sent, due = 0, time.monotonic()
        until = due + seconds
        while due < until:
            due += chance.expovariate(per_second)
            time.sleep(max(0.0, due - time.monotonic()))
            if self._idle and time.monotonic() < until:
                self._idle.popleft().sendall(REQUEST)
                sent += 1
        late = time.monotonic() + PATIENCE_S
        while self.answered < sent and time.monotonic() < late:
            time.sleep(0.01)
        self._over = True
        reader.join()
        if self.answered < sent:
            raise RuntimeError(f"{self.answered} of {sent} answered")
        return sent


def main() -> None:
    """Parse, run, print."""
    host, port, per_second, seconds = sys.argv[1:]
    sent = Steady(host, int(port)).run(float(per_second), float(seconds))
    print(sent)
    if sent < KEPT * float(per_second) * float(seconds):
        sys.exit(NOT_KEPT)


if __name__ == "__main__":
    main()
