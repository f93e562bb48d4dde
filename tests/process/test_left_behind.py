"""What an order finds in its way, or leaves: socket files that stay, reloads that came too late."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.process.hanging import Hanging
from tests.process.program import Program
from tests.process.test_bad_cases import MINE, layered
from tests.process.test_fleet import GATED
from tests.process.test_upgrade import end
from tests.process.test_workers import HELLO, get, write


def beside(folder: Path, text: str = HELLO) -> tuple[str, Path]:
    """A configuration with a unix socket beside the port, and the path of that."""
    path = folder / "s.sock"
    return text.replace("listeners: {", f'listeners: {{local: {{bind: "unix:{path}"}}, '), path


def in_the_way(path: Path) -> None:
    """Nobody can remove the file as one of a socket."""
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("how", ["reload", "drain"])
def test_a_socket_file_that_cannot_be_removed_stays_and_the_change_is_whole(
    tmp_path: Path, how: str
) -> None:
    text, path = beside(tmp_path)
    file = write(tmp_path, text)
    with Program(file, "--workers", "2") as program:
        url = program.url()
        in_the_way(path)
        if how == "reload":
            file.write_text(HELLO.replace("body: hello", "body: bye"))
            program.order("/reload")
        else:
            program.order("/drain", listener="local")
        program.line(rf"the socket file {path} stays: Is a directory")
        status = program.status()
        assert (status["config_version"], list(status["listeners"])) == (2, ["edge"])
        assert {w["config_version"] for w in status["workers"]} == {2}
        before = program.workers()
        os.kill(before[0], signal.SIGKILL)
        program.until(lambda: program.workers().get(0, before[0]) != before[0])
        assert get(url) == (200, b"bye" if how == "reload" else b"hello")
        assert program.stop() == 0


def test_a_socket_file_that_cannot_be_removed_keeps_no_program_from_draining(
    tmp_path: Path,
) -> None:
    with Hanging() as hanging:
        text, path = beside(tmp_path, hanging.routed(HELLO, "1s"))
        with Program(write(tmp_path, text), "--workers", "2") as program:
            hanging.ask(program.url(), 2)
            in_the_way(path)
            began = time.monotonic()
            assert program.stop() == 0
            assert time.monotonic() - began > 0.8, "what is in flight has its time"


def test_a_reload_that_waits_for_an_upgrade_is_the_new_programs(tmp_path: Path) -> None:
    file, given = layered(tmp_path)
    (tmp_path / "mine.py").write_text(GATED + MINE)
    (tmp_path / "go").touch()
    with Program(file, "--workers", "1", **given) as program:
        url, old = program.url(), program.status()["pid"]
        (tmp_path / "go").unlink()
        seen = set(tmp_path.glob("at-*"))
        upgrade = threading.Thread(target=program.order, args=("/upgrade",))
        upgrade.start()
        program.until(lambda: set(tmp_path.glob("at-*")) > seen)  # the file was read before that
        file.write_text(file.read_text().replace("body: hello", "body: bye"))
        program.process.send_signal(signal.SIGHUP)
        time.sleep(0.2)  # nobody tells that it waits
        (tmp_path / "go").touch()
        upgrade.join(60)
        program.until(lambda: get(url) == (200, b"bye"))
        program.until(lambda: not Path(f"/proc/{old}").exists() or program.process.poll() == 0)
        status = program.status()
        assert status["file_is_in_force"]
        end(program, status["pid"])


def test_a_signal_while_the_first_file_is_read_ends_it(tmp_path: Path) -> None:
    routes = "".join(
        f"- {{name: r{n}, match: {{host: h{n}.test}}, respond: {{}}}}\n" for n in range(30_000)
    )
    file = write(tmp_path, HELLO.split("routes:")[0] + "routes:\n" + routes)
    with Program(file, "--workers", "1") as program:
        program.until(lambda: _reads(program.process.pid, file))
        began = time.monotonic()
        assert program.stop() == 0
        assert time.monotonic() - began < 5


def _reads(pid: int, file: Path) -> bool:
    """Whether the thread that reads the file is there; it is done in no time, and then compiles."""
    tasks = Path(f"/proc/{pid}/task")
    names = [(each / "comm").read_text().strip() for each in tasks.iterdir()]
    return len(names) > 1 and file.exists()


def test_what_a_file_includes_is_part_of_what_it_says(tmp_path: Path) -> None:
    head, routes = HELLO.split("routes:")
    more = tmp_path / "more.yaml"
    more.write_text("routes:" + routes)
    with Program(write(tmp_path, head + "include: more.yaml\n"), "--workers", "1") as program:
        program.url()
        assert program.status()["file_is_in_force"]
        more.write_text("routes:" + routes.replace("hello}", "bye}"))
        assert not program.status()["file_is_in_force"]
        program.order("/reload")
        assert program.status()["file_is_in_force"]
        program.order("/rollback")
        assert not program.status()["file_is_in_force"]
        more.write_text("routes:" + routes)
        assert program.status()["file_is_in_force"]
        more.unlink()
        assert not program.status()["file_is_in_force"]
        assert program.stop() == 0


def test_a_listener_that_was_drained_is_another_configurations(tmp_path: Path) -> None:
    text, _ = beside(tmp_path)
    file = write(tmp_path, text)
    with Program(file, "--workers", "1") as program:
        program.url()
        assert program.status()["file_is_in_force"]
        program.order("/drain", listener="local")
        assert not program.status()["file_is_in_force"]
        program.order("/reload")
        assert program.status()["file_is_in_force"]
        # Another text of the same size, and as old as the one before.
        found = file.stat()
        with file.open("r+") as opened:
            opened.write(text.replace("hello", "hullo"))
        os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
        assert not program.status()["file_is_in_force"]
        assert program.stop() == 0
