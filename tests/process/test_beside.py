"""What `meshcore run` says of a configuration, and what it takes from around its file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from meshcore._core import Engine, TicketRing
from meshcore.config.change import change
from meshcore.config.compile import compile
from meshcore.config.load import load_text
from meshcore.process.worker import Worker
from tests.process.program import Program
from tests.process.test_workers import HELLO, get, write

LEFT = HELLO + "upstreams: {left: {endpoints: [127.0.0.1:1]}}\n"
# What a layer imports later is found there too.
LAYER = """\
import meshcore

class Answers(meshcore.Layer):
    def on_request(self, request):
        import late
        return meshcore.Answer(200, [], late.BODY)
"""


def told(program: Program) -> list[str]:
    return [line for line in program.lines if "warning: " in line]


def test_a_mistake_is_told_once_and_what_is_new_at_a_reload(tmp_path: Path) -> None:
    file = write(tmp_path, LEFT)
    first = f"{file}:6:13: warning: upstreams.left: no route sends anything to this upstream"
    with Program(file, "--workers", "1") as program:
        program.url()
        assert told(program) == [first]
        file.write_text(LEFT + "# another text\n")
        program.order("/reload")
        assert told(program) == [first]
        file.write_text(LEFT.replace("[127.0.0.1:1]}", "[127.0.0.1:1]}, more: {endpoints: [a:1]}"))
        program.order("/reload")
        second = program.line(r"warning: upstreams\.more: no route")
        assert [line for line in told(program) if "no route" in line] == [first, second.string]
        program.line(r"warning: upstreams\.more\.endpoints\[0\]: a does not resolve: ")


def test_a_layer_beside_the_file_is_found_wherever_the_program_runs(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text("BODY = b'from beside'\n")
    (tmp_path / "beside.py").write_text(LAYER)
    text = HELLO.replace("{body: hello}", "{body: hello}, layers: [python: beside:Answers]")
    file = write(tmp_path, text)
    program = Program(file, "--workers", "1")
    # The command as it is installed; -P keeps out the folder of whoever starts it.
    program.command = [sys.executable, "-P", "-m", *program.command[2:]]
    with program:
        assert get(program.url()) == (200, b"from beside")
    check = [sys.executable, "-P", "-m", "meshcore", "check", "--strict", str(file)]
    assert subprocess.run(check, capture_output=True, timeout=30, cwd="/").returncode == 0


async def test_the_folder_is_looked_into_for_layers_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What asks for a module that is not installed gets none from beside a file without layers."""
    before = [*sys.path]
    monkeypatch.setattr(sys, "path", [*before])
    worker = Worker(Engine(seed=1), folder=tmp_path, tickets=TicketRing())
    plain = change(None, compile(load_text(HELLO)))
    await worker.prepare(plain)
    assert sys.path == before
    (tmp_path / "mine_alone.py").write_text("import meshcore\nclass Mine(meshcore.Layer): pass\n")
    layered = HELLO.replace("{body: hello}", "{}, layers: [python: mine_alone:Mine]")
    await worker.prepare(change(None, compile(load_text(layered))))
    assert sys.path == [*before, str(tmp_path)]
    await worker.stop(0)


def test_values_of_the_environment_come_again_at_a_reload(tmp_path: Path) -> None:
    file = write(tmp_path, HELLO.replace("{body: hello}", '{body: "${GREETING}"}'))
    with Program(file, "--workers", "1", "--env", GREETING="hallo") as program:
        url = program.url()
        assert get(url) == (200, b"hallo")
        file.write_text(file.read_text().replace("${GREETING}", "${GREETING} ${NAME:-Welt}"))
        program.order("/reload")
        assert get(url) == (200, b"hallo Welt")
        program.order("/rollback")
        assert get(url) == (200, b"hallo")


def test_included_files_are_watched_and_gone_back_to(tmp_path: Path) -> None:
    rest, routes = HELLO.split("routes: ")
    file = write(tmp_path, rest + "watch: on\ninclude: routes.yaml\n")
    more = tmp_path / "routes.yaml"
    more.write_text(f"routes: {routes}")
    with Program(file, "--workers", "1") as program:
        url = program.url()
        assert get(url) == (200, b"hello")
        more.write_text(f"routes: {routes.replace('body: hello', 'body: bye')}")
        program.line("configuration 2 is in force")
        assert get(url) == (200, b"bye")
        program.order("/rollback")
        assert get(url) == (200, b"hello"), "by what was in the file then"


TENANT = """\
import meshcore

class Tenant(meshcore.Layer):
    made = 0

    def __init__(self, name: str, *, codes: list[int] = ()):
        Tenant.made += 1
        self.text = f"{name} {Tenant.made}".encode()

    def on_request(self, request):
        return meshcore.Answer(200, [], self.text)
"""


def layered(use: str) -> str:
    return HELLO.replace("{body: hello}", f"{{body: hello}}, layers: [python: {use}]")


def test_arguments_of_layers_come_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(TENANT)
    file = write(tmp_path, layered("{class: own:Tenant, with: {name: a}}"))
    with Program(file, "--workers", "1") as program:
        url = program.url()
        assert get(url) == (200, b"a 1")
        file.write_text(layered("{class: own:Tenant, with: {name: a}}") + "watch: off\n")
        program.order("/reload")
        assert get(url) == (200, b"a 1")
        file.write_text(layered("{class: own:Tenant, with: {name: b}}"))
        program.order("/reload")
        assert get(url) == (200, b"b 2")
        file.write_text(layered("{class: own:Tenant, with: {nane: b, codes: [x]}}"))
        with pytest.raises(SystemExit):
            program.order("/reload")
        assert get(url) == (200, b"b 2")
        place = "routes[0].layers[0].python.with"
        told = [problem.partition(": ") for problem in program.status()["refused"]["problems"]]
        assert sorted(said for _, _, said in told) == [
            f"{place}.codes[0]: expected a whole number, got 'x'",
            f"{place}.name: required argument is missing",
            f"{place}.nane: unknown argument (did you mean name?)",
        ]
        assert {where.rpartition(":")[0] for where, _, _ in told} == {f"{file}:5"}
        program.order("/rollback")
        assert get(url)[1].startswith(b"a")


@pytest.mark.parametrize(
    ("use", "problem"),
    [
        (
            "{class: own:Tenant, with: {name: 5}}",
            'routes[0].layers[0].python.with.name: expected a text, got 5 (write "5")',
        ),
        (
            "nowhere:Layer",
            "routes[0].layers[0].python: python layer nowhere:Layer: No module named 'nowhere'",
        ),
    ],
)
def test_a_program_does_not_start_with_a_layer_that_cannot_be_made(
    tmp_path: Path, use: str, problem: str
) -> None:
    (tmp_path / "own.py").write_text(TENANT)
    file = write(tmp_path, layered(use))
    with Program(file, "--workers", "2") as program:
        assert program.process.wait(30) == 2
    (line,) = [line for line in program.lines if "python" in line]
    assert line.startswith(f"{file}:5:")
    assert line.endswith(f": {problem}")
