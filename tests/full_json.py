"""What the core is given for `full.yaml`: ``python -m tests.full_json`` writes it down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from meshcore.config.compile import compile
from meshcore.config.load import load_file

DATA = Path(__file__).parent / "data"
FULL = DATA / "full.json"


def full() -> Any:
    """As the core reads it."""
    return json.loads(compile(load_file(DATA / "full.yaml"), version=7).core_json())


if __name__ == "__main__":
    FULL.write_text(json.dumps(full(), indent=1) + "\n")
