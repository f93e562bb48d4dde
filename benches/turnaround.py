"""How long one changed line of the core takes to be seen by one Python test, with `make test-one`.

    python -m benches.turnaround --rounds 3

Each round changes the body of a function of `meshcore-core`, runs the test, and tells the time; the
file is put back at the end. The first round is left out: it builds what the others keep.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "rust" / "meshcore-core" / "src" / "routing" / "query.rs"
TEST = "tests/wire/test_forward.py::test_who_names_no_host_asks_the_endpoint"
BAR_S = 20.0


def changed(text: str, number: int) -> str:
    """With a statement at the begin of the first function's body."""
    begin = text.index("{\n", text.index("fn ")) + 2
    return f"{text[:begin]}    let _ = std::hint::black_box({number});\n{text[begin:]}"


def run() -> float:
    """One round, in seconds."""
    begin = time.monotonic()
    subprocess.run(
        ["make", "--no-print-directory", "test-one", f"T={TEST}"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.monotonic() - begin


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    text = SOURCE.read_text()
    took = []
    try:
        for number in range(rounds + 1):
            SOURCE.write_text(changed(text, number))
            took.append(run())
    finally:
        SOURCE.write_text(text)
    median = statistics.median(took[1:])
    each = ", ".join(f"{seconds:.1f}" for seconds in took[1:])
    print(f"{median:.1f} s (of {each}); the bar is {BAR_S:.0f} s")
    return median > BAR_S


if __name__ == "__main__":
    sys.exit(main())
