"""What a profile is read from."""

from __future__ import annotations

import pytest
from benches.load.profile import part_of, read_report

REPORT = """
# Overhead|Shared Object|Symbol
# ........
    14.60%|libpython3.11.so.1.0                |[.] _PyEval_EvalFrameDefault
     4.00%|[kernel.kallsyms]                   |[k] _raw_spin_unlock_irqrestore
     1.50%|loop.cpython-311-x86_64-linux-gnu.so|[.] uv__io_poll
     1.00%|_core.cpython-311-x86_64-linux-gnu.so|[.] meshcore_core::walk
"""


def test_each_sample_belongs_to_a_part() -> None:
    samples = read_report(REPORT)
    assert [(x.share, x.part) for x in samples] == [
        (0.146, "interpreter"),
        (0.04, "kernel"),
        (0.015, "loop (uvloop)"),
        (0.01, "core (Rust)"),
    ]
    assert samples[1].symbol == "_raw_spin_unlock_irqrestore"


@pytest.mark.parametrize(
    ("name", "part"), [("libc.so.6", "libc"), ("[vdso]", "other"), ("python3.11", "interpreter")]
)
def test_parts(name: str, part: str) -> None:
    assert part_of(name) == part


def test_no_samples_are_no_profile() -> None:
    with pytest.raises(ValueError, match="no samples"):
        read_report("# nothing\n")
