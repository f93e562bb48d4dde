"""What the program says that it takes of the host."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from meshcore import Proxy, __version__
from meshcore.config.load import load_text
from tests.process.program import Program

MESH = """
version: 1
workers: 2
admin: {bind: "127.0.0.1:0"}
listeners: {edge: {bind: "127.0.0.1:0"}}
routes: [{name: all, respond: {body: hello}}]
"""


def values(text: str) -> dict[str, float]:
    """Those without labels."""
    families = text_string_to_metric_families(text)
    return {x.name: x.value for family in families for x in family.samples if not x.labels}


def test_all_processes_count_and_those_that_have_ended_too(tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    file.write_text(MESH)
    began_s = time.time()
    with Program(file) as program:
        program.url("admin")
        before = values(program.metrics())
        pids = [program.process.pid, *program.workers().values()]
        assert before["process_resident_memory_bytes"] > len(pids) * 10_000_000
        assert before["process_open_fds"] > len(pids) * 3
        assert before["process_max_fds"] >= 1024
        assert abs(before["process_start_time_seconds"] - began_s) < 60
        victim = program.workers()[0]
        os.kill(victim, signal.SIGKILL)
        program.until(lambda: program.workers().get(0) not in (None, victim))
        after = values(program.metrics())
        assert after["process_cpu_seconds_total"] >= before["process_cpu_seconds_total"] > 0


async def _of_a_proxy() -> str:
    async with Proxy(load_text(MESH)) as proxy:
        return proxy.metrics()[0].decode()


def test_a_program_of_ones_own_tells_of_its_process_itself() -> None:
    """It may have a collector of its own, by the same names."""
    text = asyncio.run(_of_a_proxy())
    assert f'meshcore_build_info{{version="{__version__}"' in text
    assert "process_" not in text
