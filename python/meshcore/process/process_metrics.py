"""What control itself counts, put to the metrics of the core."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

END = b"# EOF\n"


class Family(NamedTuple):
    """One metric; `samples` are labels, already written, and values."""

    name: str
    kind: str
    help: str
    samples: Mapping[str, float]


def with_process_metrics(core: bytes, families: Iterable[Family]) -> bytes:
    """The core's text and these families, in the format that the core's text is in."""
    is_open = core.endswith(END)
    text = "".join(_text(family, is_open=is_open) for family in families).encode()
    return core.removesuffix(END) + text + END if is_open else core + text


def _text(family: Family, *, is_open: bool) -> str:
    # OpenMetrics names a counter without the `_total` of its samples.
    name = family.name.removesuffix("_total") if is_open else family.name
    lines = [f"# HELP {name} {family.help}", f"# TYPE {name} {family.kind}"]
    lines += [
        f"{family.name}{{{labels}}} {value:.17g}" if labels else f"{family.name} {value:.17g}"
        for labels, value in family.samples.items()
    ]
    return "\n".join(lines) + "\n"
