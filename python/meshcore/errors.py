"""Every exception of meshcore: who caused it, the stable reason, and when to come back.

The native half raises these classes too, so there is one family: catch `MeshcoreError` for
everything, `Refused` for "not now", a single class for a single reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final

from meshcore._core import By

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "BreakerOpen",
    "CodecError",
    "ConfigError",
    "DeadlineExceeded",
    "DeadlinePassed",
    "Diagnostic",
    "Draining",
    "LayerError",
    "MeshcoreError",
    "NoHealthyEndpoint",
    "Overflow",
    "RateLimited",
    "Refused",
    "SegmentFullError",
    "SegmentLayoutError",
    "TlsError",
]


class MeshcoreError(Exception):
    """The root of the family."""

    by: ClassVar[By] = By.PROXY
    """Who caused it."""
    reason: ClassVar[str] = "internal_error"
    """The stable code, as in ``x-mesh-reason``."""


class CodecError(MeshcoreError):
    """Bytes that are not the protocol they should be, or are over a limit.

    ``args`` is the message, the number of the reason, from which an answer is made, and which rule
    was broken.
    """

    by = By.CLIENT
    reason = "bad_request"

    @property
    def number(self) -> int:
        """The number of the reason."""
        return int(self.args[1])

    @property
    def detail(self) -> str:
        """Which rule was broken; for logs."""
        return str(self.args[2])

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class LayerError(MeshcoreError):
    """A Python layer cannot be loaded, is not one, or does not take the arguments that it is given.

    ``args`` is the message, the layer's key, and what is wrong with its arguments.
    """

    reason = "layer_error"

    @property
    def key(self) -> str:
        """Which layer of the configuration it is, as `config.layer_key` writes it; empty if it is
        in none."""
        return str(self.args[1]) if len(self.args) > 1 else ""

    @property
    def problems(self) -> tuple[Diagnostic, ...]:
        """What is wrong with its arguments, by their paths in ``with``."""
        return self.args[2] if len(self.args) > 2 else ()

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


# Characters of one part of a problem's line.
MAX_SHOWN: Final = 1000


# A name that can stand in a path without quotes.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One thing that is wrong with a configuration, or surely a mistake."""

    steps: tuple[str | int, ...]
    """Where in the tree, such as ``("routes", 3, "match", "host")``; empty for the whole."""
    message: str
    """What is wrong."""
    hint: str | None = None
    """What would be right, when that can be guessed."""
    file: str | None = None
    """The file, if it came from one."""
    line: int = 0
    """Counted from 1; 0 when there is no place."""
    column: int = 0
    """Counted from 1, in characters."""
    of_key: bool = field(default=False, repr=False, compare=False)
    """Whether the key itself is wrong, not its value."""
    quote: bool = field(default=False, repr=False, compare=False)
    """Whether it would be right in quotes."""

    @property
    def path(self) -> str:
        """The steps as ``routes[3].match.host``."""
        return path_text(self.steps)

    def __str__(self) -> str:
        return self._text()

    def as_warning(self) -> str:
        """The same for what is allowed, and surely a mistake."""
        return self._text("warning")

    def _text(self, kind: str = "") -> str:
        place = [self.file] if self.file else []
        if self.line:
            place += [str(self.line), str(self.column)]
        parts = [":".join(place), kind, self.path, self.message]
        text = ": ".join(_printable(part) for part in parts if part)
        return f"{text} ({_printable(self.hint)})" if self.hint else text


def path_text(path: Iterable[str | int]) -> str:
    """``routes[3].match.host``; names with other characters are quoted in brackets."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{step!r}]"
    return text


def _printable(text: str) -> str:
    """Some of it was written by others: nothing that steers a terminal or begins a line of a log,
    and no more than a person reads."""
    if len(text) > MAX_SHOWN:
        text = f"{text[: MAX_SHOWN // 2]}…{text[-MAX_SHOWN // 2 :]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class ConfigError(MeshcoreError):
    """A configuration that cannot be used, with every problem that was found."""

    reason = "bad_config"
    problems: tuple[Diagnostic, ...]

    def __init__(self, problems: Iterable[Diagnostic] | str) -> None:
        if isinstance(problems, str):
            problems = [Diagnostic((), line) for line in problems.splitlines()]
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[Diagnostic, ...]]]:
        return type(self), (self.problems,)


class SegmentFullError(ConfigError):
    """A configuration that needs more shared memory than there is."""


class SegmentLayoutError(MeshcoreError):
    """Shared memory that cannot be used: it has another layout, or is none of ours."""

    reason = "segment_layout"


class Refused(MeshcoreError):  # noqa: N818  # a refusal is not an error of the caller
    """Not now: the call was not made. Says when it is worth coming back."""

    retry_after_ns: int
    """Nanoseconds until another try may succeed; 0 when that is not known."""
    name: str | None
    """Of the limiter or breaker that refused, if it has one."""

    def __init__(self, message: str = "", retry_after_ns: int = 0, name: str | None = None) -> None:
        super().__init__(message, retry_after_ns, name)
        self.retry_after_ns = retry_after_ns
        self.name = name

    @property
    def retry_after(self) -> float:
        """`retry_after_ns` in seconds."""
        return self.retry_after_ns / 1e9

    def __str__(self) -> str:
        text = self.args[0] or self.reason.replace("_", " ")
        return f"{text}, retry after {self.retry_after:.3f} s" if self.retry_after_ns else text


class RateLimited(Refused):
    """A limiter refused."""

    reason = "rate_limited"


class BreakerOpen(Refused):
    """The circuit breaker is open, or half-open with every probe out."""

    reason = "breaker_open"


class NoHealthyEndpoint(Refused):
    """Every endpoint has just become ejected or draining: once that is known, all are used."""

    reason = "no_healthy_endpoint"


class Overflow(Refused):
    """A cap on connections, pending or active requests is reached."""

    reason = "overflow"


class Draining(Refused):
    """The proxy ends and takes no new work."""

    reason = "draining"


class DeadlineExceeded(MeshcoreError, TimeoutError):  # noqa: N818  # as it is called elsewhere
    """The time of a `meshcore.Deadline` is over."""

    reason = "deadline_exceeded"


class DeadlinePassed(Refused, DeadlineExceeded):
    """It was over before the call was made: that says nothing of what would have been called.

    Of who waited for tokens: the limiter's `name`, and as `retry_after` what its line takes yet.
    """

    def __init__(self, message: str = "", retry_after_ns: int = 0, name: str | None = None) -> None:
        super(Refused, self).__init__(message)
        self.retry_after_ns = retry_after_ns
        self.name = name


class TlsError(MeshcoreError, ConnectionError):
    """TLS on a connection failed, or was ended by the other side."""

    reason = "tls"
    alert: str | None
    """The alert that says so, by its name in RFC 8446; `None` if none does."""
    by_peer: bool
    """Whether the other side sent it."""
    no_tls: bool
    """Whether the other side speaks something else."""

    def __init__(
        self, detail: str, alert: str | None = None, by_peer: bool = False, no_tls: bool = False
    ) -> None:
        super().__init__(detail)
        self.alert, self.by_peer, self.no_tls = alert, by_peer, no_tls

    @property
    def word(self) -> str:
        """As metrics call it: the alert, ``no_tls`` or ``other``."""
        return "no_tls" if self.no_tls else self.alert or "other"
