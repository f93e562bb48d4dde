"""A change of the configuration: as a whole or not at all, and nothing is forgotten."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from click.testing import CliRunner

from meshcore.cli import main
from tests.process.hanging import refuses
from tests.process.program import Program
from tests.process.test_workers import HELLO, get, metric, write

LIMITED = HELLO.replace("{body: hello}", "{body: hello}, layers: [limit: {rate: 1/m, burst: 30}]")


def test_a_reload_is_in_force_on_all_workers_and_forgets_nothing(tmp_path: Path) -> None:
    file = write(tmp_path, LIMITED)
    with Program(file, "--workers", "3") as program:
        url = program.url()
        assert Counter(get(url)[0] for _ in range(20)) == {200: 20}
        file.write_text(LIMITED.replace("body: hello", "body: bye"))
        assert program.order("/reload") == {"config_version": 2}
        answers = Counter(get(url) for _ in range(30))
        assert answers.pop((200, b"bye")) == 10, "the tokens that were left"
        assert sum(answers.values()) == 20
        assert {status for status, _ in answers} == {429}
        assert metric(program, "meshcore_config_version") == 2
        assert {w["config_version"] for w in program.status()["workers"]} <= {1, 2}


def test_a_bad_file_changes_nothing_and_says_why(tmp_path: Path) -> None:
    file = write(tmp_path, HELLO)
    with Program(file, "--workers", "2") as program:
        url = program.url()
        file.write_text(HELLO + "nonsense: 1\n")
        with pytest.raises(SystemExit) as ended:
            program.order("/reload")
        assert ended.value.code == 2
        program.line("reload refused.*nonsense")
        assert metric(program, "meshcore_config_last_reload_success") == 0
        assert get(url) == (200, b"hello")
        assert program.status()["config_version"] == 1
        file.write_text(HELLO)
        program.order("/reload")
        assert metric(program, "meshcore_config_last_reload_success") == 1


def shown(program: Program) -> str:
    """What `meshcore status` prints."""
    done = CliRunner().invoke(main, ["status", str(program.file)])
    assert done.exit_code == 0
    return done.output


def differs(program: Program, version: int) -> str:
    """What is said of a file that is not in force."""
    return (
        f"{program.file}, or a file that it names, differs from configuration {version}, which is "
        "in force: the next reload, upgrade or restart reads it"
    )


def test_a_signal_with_a_bad_file_is_told_once_and_as_long_as_it_is_bad(tmp_path: Path) -> None:
    file = write(tmp_path, HELLO)
    with Program(file, "--workers", "1") as program:
        program.line(r"\(admin\)")
        assert program.status()["file_is_in_force"] is True
        assert program.status()["refused"] is None
        assert "differs" not in shown(program)
        file.write_text(HELLO + "drain: 1\nwatchdog: 2\n")
        bad = [
            f"{file}:6:1: duplicate key 'drain' (first on line 2)",
            f"{file}:7:11: watchdog: 2 has no unit: expected a duration such as 30s, 250ms or 5m",
        ]
        after = len(program.lines)
        program.process.send_signal(signal.SIGHUP)
        program.line("differs from", after=after)
        told = [f"reload refused, nothing has changed: {bad[0]}", bad[1], differs(program, 1)]
        assert program.lines[after:] == told
        status = program.status()
        assert status["file_is_in_force"] is False
        assert (status["refused"]["origin"], status["refused"]["problems"]) == ("reload", bad)
        output = shown(program)
        for line in (differs(program, 1), "reload refused at ", *bad):
            assert line in output
        # What orders it some other way is told the same, once.
        after = len(program.lines)
        with pytest.raises(SystemExit):
            program.order("/reload")
        program.line("differs from", after=after)
        assert program.lines[after:] == told
        file.write_text(HELLO)
        assert program.status()["file_is_in_force"] is True, "as it was before"
        program.order("/reload")
        assert program.status()["refused"] is None
        file.unlink()
        assert program.status()["file_is_in_force"] is False
        assert program.stop() == 0


def test_a_file_that_never_ends_holds_neither_a_reload_nor_the_end(tmp_path: Path) -> None:
    """To open a pipe is to wait for its other end."""
    token = tmp_path / "token"
    token.write_text("secret")
    file = write(tmp_path, HELLO.replace(':0"}', f':0", token_file: {token}}}', 1))
    with Program(file, "--workers", "1") as program:
        program.line(r"\(admin\)")
        token.unlink()
        os.mkfifo(token)
        program.process.send_signal(signal.SIGHUP)
        program.line("reload refused.*not a file")
        token.unlink()
        token.write_text("secret")
        file.unlink()
        os.mkfifo(file)
        program.process.send_signal(signal.SIGHUP)
        program.line("reload refused.*not a file")
        assert program.stop() == 0


def test_a_rollback_says_that_the_file_is_as_it_was(tmp_path: Path) -> None:
    file = write(tmp_path, HELLO)
    with Program(file, "--workers", "1") as program:
        program.line(r"\(admin\)")
        file.write_text(HELLO.replace("body: hello", "body: again"))
        program.order("/reload")
        done = CliRunner().invoke(main, ["rollback", str(file)])
        assert done.output == f"{file}: configuration 3 is in force\n{differs(program, 3)}\n"
        assert program.line("differs from").string == differs(program, 3)
        assert differs(program, 3) in shown(program)
        file.write_text(HELLO)
        assert "differs" not in shown(program)
        assert program.stop() == 0


def test_many_problems_are_told_in_few_lines(tmp_path: Path) -> None:
    file = write(tmp_path, HELLO)
    with Program(file, "--workers", "1") as program:
        program.line(r"\(admin\)")
        file.write_text(HELLO + "".join(f"key{n}: 1\n" for n in range(1000)))
        after = len(program.lines)
        program.process.send_signal(signal.SIGHUP)
        program.line("differs from", after=after)
        assert len(program.lines[after:]) == 22
        assert program.lines[-2] == "and 980 more"
        assert program.status()["refused"]["problems"][-1] == "and 980 more"
        assert program.stop() == 0


def test_what_only_a_worker_can_see_is_refused_by_all(tmp_path: Path) -> None:
    file = write(tmp_path, HELLO)
    with Program(file, "--workers", "2") as program:
        url = program.url()
        layer = "layers: [python: nowhere:Layer]"
        file.write_text(HELLO.replace("{body: hello}", "{body: bye}, " + layer))
        with pytest.raises(SystemExit):
            program.order("/reload")
        assert get(url) == (200, b"hello")
        file.write_text(HELLO.replace("body: hello", "body: again"))
        program.order("/reload")
        assert {get(url)[1] for _ in range(10)} == {b"again"}


ODD = """
class Odd(BaseException):
    pass
raise Odd("as asked")
"""
# An import may raise anything, and so may a constructor.
UNUSABLE = {
    "missing": ("", "No module named 'unusable'"),
    "error": ("raise ValueError('no model')", "no model"),
    "exit": ("import sys; sys.exit('enough')", "enough"),
    "odd": (ODD, "as asked"),
    "cancelled": ("import asyncio; raise asyncio.CancelledError", "CancelledError"),
    "made": (
        "from meshcore import Layer\n"
        "class L(Layer):\n"
        "    def __init__(self): raise GeneratorExit('not made')",
        "not made",
    ),
}


@pytest.mark.parametrize("how", UNUSABLE)
def test_a_layer_that_cannot_be_imported_costs_no_worker(tmp_path: Path, how: str) -> None:
    source, told = UNUSABLE[how]
    file = write(tmp_path, HELLO)
    with Program(file, "--workers", "2") as program:
        url = program.url()
        before = program.workers()
        if source:
            (tmp_path / "unusable.py").write_text(source)
        layer = "layers: [python: unusable:L]"
        file.write_text(HELLO.replace("{body: hello}", "{body: bye}, " + layer))
        with pytest.raises(SystemExit):
            program.order("/reload")
        (problem,) = program.status()["refused"]["problems"]
        assert "python layer unusable:L: " in problem
        assert told in problem
        assert program.workers() == before
        assert get(url) == (200, b"hello")
        assert program.stop() == 0
        assert not any("ended" in line for line in program.lines)


def test_listeners_come_and_go(tmp_path: Path) -> None:
    file = write(tmp_path, HELLO)
    with Program(file, "--workers", "2") as program:
        url = program.url()
        two = 'listeners: {edge: {bind: "127.0.0.1:0"}, more: {bind: "127.0.0.1:0"}}'
        file.write_text(HELLO.replace('listeners: {edge: {bind: "127.0.0.1:0"}}', two))
        program.order("/reload")
        listeners = program.status()["listeners"]
        assert listeners["edge"] == url
        assert get(listeners["more"]) == (200, b"hello")
        file.write_text(HELLO)
        program.order("/reload")
        assert [*program.status()["listeners"]] == ["edge"]
        with pytest.raises(OSError, match="refused"):
            get(listeners["more"])
        assert get(url) == (200, b"hello")


def test_the_number_of_workers_changes(tmp_path: Path) -> None:
    file = write(tmp_path, HELLO + "workers: 2\n")
    with Program(file) as program:
        url = program.url()
        for workers in (4, 1, 2):
            file.write_text(HELLO + f"workers: {workers}\n")
            program.order("/reload")
            program.until(lambda n=workers: [*program.workers()] == [*range(n)])
            assert all(get(url) == (200, b"hello") for _ in range(40))
        assert program.stop() == 0


def test_a_drained_worker_is_replaced_and_a_drained_listener_stays_closed(tmp_path: Path) -> None:
    two = 'listeners: {edge: {bind: "127.0.0.1:0"}, more: {bind: "127.0.0.1:0"}}'
    file = write(tmp_path, HELLO.replace('listeners: {edge: {bind: "127.0.0.1:0"}}', two))
    with Program(file, "--workers", "2") as program:
        url = program.url()
        before = program.workers()
        program.order("/drain", worker=1)
        program.until(lambda: program.workers().get(1, before[1]) != before[1])
        assert program.workers()[0] == before[0]
        assert all(get(url) == (200, b"hello") for _ in range(20))
        program.order("/drain", listener="edge")
        with pytest.raises(OSError, match="refused"):
            get(url)
        with pytest.raises(SystemExit):
            program.order("/drain", listener="more")  # the last
        assert get(program.url("more")) == (200, b"hello")
        program.order("/reload")
        assert get(program.status()["listeners"]["edge"]) == (200, b"hello")
        program.order("/drain", listener="edge")
        program.order("/rollback")  # to the one before the reload: a drain is none
        assert program.status()["history"][-1]["origin"] == "rollback to 1"
        assert get(program.status()["listeners"]["edge"]) == (200, b"hello")


def test_a_listener_is_closed_in_workers_that_drain_before_that_is_told(tmp_path: Path) -> None:
    """One that had no turn since it was told to drain accepts as before."""
    two = 'listeners: {edge: {bind: "127.0.0.1:0"}, more: {bind: "127.0.0.1:0"}}'
    file = write(tmp_path, HELLO.replace('listeners: {edge: {bind: "127.0.0.1:0"}}', two))
    with Program(file, "--workers", "2") as program:
        url, still = program.url(), program.workers()[1]
        os.kill(still, signal.SIGSTOP)
        program.order("/drain", worker=1)
        program.until(lambda: program.workers("draining") == {1: still})
        with ThreadPoolExecutor(1) as pool:
            closing = pool.submit(program.order, "/drain", listener="edge")
            program.until(lambda: [*program.status()["listeners"]] == ["more"])
            wait([closing], 0.2)
            told_early = closing.done()
            os.kill(still, signal.SIGCONT)
            closing.result()
        assert not told_early
        assert all(refuses(url) for _ in range(20))


def test_the_last_ten_can_be_gone_back_to(tmp_path: Path) -> None:
    file = write(tmp_path, HELLO)
    with Program(file, "--workers", "1") as program:
        url = program.url()
        for n in range(12):
            file.write_text(HELLO.replace("body: hello", f"body: number {n}"))
            program.order("/reload")
        history = program.status()["history"]
        assert [each["version"] for each in history] == [*range(4, 14)]
        program.order("/rollback")
        assert get(url)[1] == b"number 10"
        program.order("/rollback", version=5)
        assert get(url)[1] == b"number 3"
        with pytest.raises(SystemExit):
            program.order("/rollback", version=1)
        assert get(url)[1] == b"number 3"


def test_a_watched_file_is_reloaded_also_behind_a_swapped_link(tmp_path: Path) -> None:
    for name, body in (("one", "first"), ("two", "second")):
        (tmp_path / name).mkdir()
        text = HELLO.replace("body: hello", f"body: {body}") + "watch: on\n"
        (tmp_path / name / "mesh.yaml").write_text(text)
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "mesh.yaml").symlink_to("..data/mesh.yaml")
    with Program(tmp_path / "mesh.yaml", "--workers", "1") as program:
        url = program.url()
        assert get(url)[1] == b"first"
        (tmp_path / "..new").symlink_to("two")
        (tmp_path / "..new").rename(tmp_path / "..data")
        program.line("configuration 2 is in force")
        assert get(url)[1] == b"second"


def test_requests_of_a_closed_listener_end_as_they_began(tmp_path: Path) -> None:
    file = write(tmp_path, HELLO)
    with Program(file, "--workers", "1") as program:
        host, port = program.url().removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as sock:
            program.until(lambda: metric(program, "meshcore_listener_connections{") == 1)
            file.write_text(HELLO.replace("edge:", "other:"))
            program.order("/reload")
            sock.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            answer = sock.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close" in answer.lower()
        time.sleep(0)


def test_rules_that_a_reload_brings_are_in_force_on_all_workers_and_counted_together(
    tmp_path: Path,
) -> None:
    def ruled(*methods: str) -> str:
        rule = f"{{name: a, methods: [{', '.join(methods)}]}}"
        layers = f"layers: [allow: {{rules: [{rule}]}}]"
        return HELLO.replace("{body: hello}", f"{{body: hello}}, {layers}")

    file = write(tmp_path, HELLO)
    with Program(file, "--workers", "3") as program:
        url = program.url()
        for text, status in ((ruled("PUT"), 403), (ruled("PUT", "GET"), 200), (HELLO, 200)):
            file.write_text(text)
            program.order("/reload")
            assert Counter(get(url)[0] for _ in range(20)) == {status: 20}
            if text != HELLO:
                assert metric(program, "meshcore_allow_total") == (20 if status == 403 else 40)
        assert metric(program, "meshcore_local_answers_total") == 20 + 40
