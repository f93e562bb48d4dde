"""What the demo shows of the last seconds, in 80 columns and 24 lines."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.text import Text

from meshcore.demo.visitor import WINDOW_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshcore.demo.services import Behaviour
    from meshcore.demo.visitor import Recent, Visitor

BAR_CELLS: Final = 20
# States of a breaker that are shown, newest last; one for each picture.
STATES: Final = 30
BREAKER: Final = ("closed", "half open", "open")
COLOURS: Final = {"closed": "green", "half open": "yellow", "open": "red"}
EIGHTHS: Final = " ▏▎▍▌▋▊▉█"

INTRO: Final = """\
polite asks /echo less often than its limit of 20/s. greedy asks five times as
often and is refused the rest: 429. One service of /echo fails each fifth
request, which a retry hides. /slow is well for 3 s, then slower than its
timeout for 3 s (504): its breaker opens and refuses at once (503)."""


def bar(part: float, colour: str, cells: int = BAR_CELLS) -> Text:
    """A bar of ``cells`` columns of which ``part``, from 0 to 1, is filled."""
    eighths = round(min(max(part, 0.0), 1.0) * cells * 8)
    full, rest = divmod(eighths, 8)
    text = "█" * full + (EIGHTHS[rest] if rest else "")
    return Text(text.ljust(cells), style=colour)


@dataclass
class Screen:
    """Draws one picture after another; keeps what the one before it saw."""

    states: deque[str] = field(default_factory=lambda: deque(maxlen=STATES))
    changes: list[str] = field(default_factory=list)

    def picture(
        self, visitors: Iterable[Visitor], services: Iterable[Behaviour], breaker: int, retries: int
    ) -> Group:
        """The last seconds; ``breaker`` is the state of /slow's, ``retries`` those of /echo."""
        state = BREAKER[breaker]
        self.states.append(state)
        if self.changes[-1:] != [state]:
            self.changes.append(state)
        visitors = [*visitors]
        return Group(
            Text(INTRO, "italic"),
            Text(),
            _clients(visitors),
            _services(services, visitors, retries),
            self._breaker(),
        )

    def _breaker(self) -> Text:
        text = Text("breaker of /slow\n", "bold")
        for state in self.states:
            text.append(
                "█" if state == "open" else "▄" if state == "half open" else "▁", COLOURS[state]
            )
        shown = " > ".join(self.changes[-5:])
        return text.append(f" {shown}", COLOURS[self.states[-1]])


def _clients(visitors: list[Visitor]) -> Text:
    text = Text(
        f"last {WINDOW_S:g} s          200s, of what is asked          median slowest\n", "bold"
    )
    for visitor in visitors:
        recent = visitor.recent()
        well = recent.per_second.get("200", 0.0)
        text.append(f"{visitor.name:<8} {visitor.path:<6} ", "default not bold")
        text.append_text(bar(well / visitor.per_second, "not bold green"))
        text.append(f" {well:5.1f} of {visitor.per_second:>3g}/s", "default not bold")
        text.append(
            f" {recent.median_s * 1000:5.1f} ms {recent.slowest_s * 1000:4.0f} ms\n",
            "default not bold",
        )
        text.append_text(_refused(recent))
    return text


def _refused(recent: Recent) -> Text:
    """What else a client was told, or that it was nothing else."""
    others = sorted((what, n) for what, n in recent.per_second.items() if what != "200")
    told = ", ".join(f"{n:.1f}/s {what}" for what, n in others)
    return Text(f"  {told}\n", "not bold red") if told else Text("  nothing else\n", "not bold dim")


def _services(services: Iterable[Behaviour], visitors: list[Visitor], retries: int) -> Text:
    answered = Counter[str]()
    for visitor in visitors:
        answered.update(visitor.replicas)
    most = max(answered.values(), default=1)
    text = Text(f"answers since the start, {retries} retries\n", "bold")
    for service in services:
        count = answered[service.name]
        text.append(f"{service.name:<15} ", "default not bold")
        text.append_text(bar(count / most, "not bold cyan"))
        text.append(f" {count:>5} {_weather(service)}\n", "default not bold")
    return text


def _weather(service: Behaviour) -> str:
    if service.delay_s:
        return f"takes {service.delay_s:g} s"
    return f"fails one in {service.fail_one_in}" if service.fail_one_in else "well"
