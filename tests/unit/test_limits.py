"""What the system lets a process have, and a thread."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from meshcore.process.limits import BEHIND, give_way


@pytest.mark.skipif(sys.platform != "linux", reason="a thread has no priority of its own")
def test_only_the_thread_that_prepares_gives_way() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with ThreadPoolExecutor(1, initializer=give_way) as pool:
        found = pool.submit(os.getpriority, os.PRIO_PROCESS, 0).result()
    assert found == max(before, BEHIND)
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
