"""What layers in Python count is one number over all workers, those before and the next program."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from meshcore.cli import main
from tests.process.program import Program
from tests.process.test_upgrade import end, upgraded
from tests.process.test_workers import HELLO, get, metric, write

LAYER = """\
import meshcore

class Mine(meshcore.Layer):
    counts = {"hits": "Requests."%s}

    def on_request(self, request):
        self.count("hits")
        for name in self.counts:
            if name != "hits":
                self.count(name, 2)
"""
LAYERED = HELLO.replace("{body: hello}", "{body: hello}, layers: [python: counting:Mine]")
HITS, NEW = (f'meshcore_layer_{name}_total{{layer="counting:Mine"}}' for name in ("hits", "new"))


def test_it_is_the_sum_over_workers_and_goes_on_with_their_successors(tmp_path: Path) -> None:
    module = tmp_path / "counting.py"
    module.write_text(LAYER % "")
    file = write(tmp_path, LAYERED)
    with Program(file, "--workers", "2") as program:
        url, admin = program.url(), program.line(r"listening (\S+) \(admin\)")[1]
        assert HITS + " 0" in get(admin + "/metrics")[1].decode().splitlines()

        def asked(times: int) -> float:
            assert all(get(url) == (200, b"hello") for _ in range(times))
            return metric(program, HITS)

        assert asked(40) == 40
        program.order("/reload")
        assert asked(10) == 50
        module.write_text(LAYER % ', "new": "Of a later version."')
        before = program.workers()
        for worker in (0, 1):  # imports the class as it is now
            program.order("/drain", worker=worker)
            program.until(lambda n=worker: program.workers().get(n, before[n]) != before[n])
        program.until(lambda: not program.workers("draining"))
        assert asked(10) == 60
        assert metric(program, NEW) == 20
        lines = get(admin + "/metrics")[1].decode().splitlines()
        assert "# HELP meshcore_layer_new_total Of a later version." in lines
        pid = upgraded(program)
        assert asked(5) == 65
        assert metric(program, NEW) == 30
        file.write_text(HELLO)
        program.order("/reload")
        assert asked(5) == 0
        end(program, pid)


def test_counts_that_are_wrong_are_told_of_by_check_and_refused(tmp_path: Path) -> None:
    (tmp_path / "counting_wrong.py").write_text(LAYER % ', "Bad": "No."')
    good = write(tmp_path, HELLO)
    bad = tmp_path / "bad.yaml"
    bad.write_text(LAYERED.replace("counting:", "counting_wrong:"))
    told = "python layer counting_wrong:Mine: counts: 'Bad' is not a name"
    checked = CliRunner().invoke(main, ["check", str(bad)])
    assert told in checked.output
    with Program(good, "--workers", "1") as program:
        url = program.url()
        good.write_text(bad.read_text())
        refused = CliRunner().invoke(main, ["reload", str(good)])
        assert (refused.exit_code, told in refused.output) == (2, True)
        assert get(url) == (200, b"hello")
        assert program.stop() == 0
