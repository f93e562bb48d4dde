"""Failures by name: what `retry.when` and `circuit_breaker.on` may hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal, get_args

from pydantic import BeforeValidator

from meshcore.config.hints import HintedError, nearest, shown

if TYPE_CHECKING:
    from collections.abc import Callable

RetriedGrpcStatus = Literal[
    "cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"
]
"""The gRPC statuses that another attempt may mend."""

RetriedWord = Literal["connect", "refused", "reset", "5xx"]

BreakerGrpcStatus = Literal[
    "cancelled",
    "unknown",
    "invalid-argument",
    "deadline-exceeded",
    "not-found",
    "already-exists",
    "permission-denied",
    "resource-exhausted",
    "failed-precondition",
    "aborted",
    "out-of-range",
    "unimplemented",
    "internal",
    "unavailable",
    "data-loss",
    "unauthenticated",
]
"""All but OK, in the order of their numbers, by the names that Envoy and Linkerd use: which of
them are failures depends on the service."""

# https://grpc.github.io/grpc/core/md_doc_statuscodes.html
_GRPC_NUMBERS: Final[dict[str | int, int]] = {
    name: number for number, name in enumerate(get_args(BreakerGrpcStatus), start=1)
}

BreakerWord = Literal["connect", "reset", "timeout", "gateway", "5xx", "slow"]

_STATUSES: Final[dict[str | int, range]] = {"gateway": range(502, 505), "5xx": range(500, 600)}


def _one_of(words: tuple[str, ...], told: str) -> Callable[[object], object]:
    """A check that a failure is one of these words, or a status."""

    def check(value: object) -> object:
        if value in words:
            return value
        if isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599:
            return value
        hint = nearest(value, words) if isinstance(value, str) else None
        raise HintedError(f"expected {told}, got {shown(value)}", hint)

    return check


_RETRIED: Final = (*get_args(RetriedWord), *get_args(RetriedGrpcStatus))
_COUNTED: Final = (*get_args(BreakerWord), *get_args(BreakerGrpcStatus))

RetriedFailure = Annotated[
    RetriedWord | RetriedGrpcStatus | int,
    BeforeValidator(_one_of(_RETRIED, f"{', '.join(_RETRIED)} or a status from 400 to 599")),
]
"""What is tried again."""

BreakerFailure = Annotated[
    BreakerWord | BreakerGrpcStatus | int,
    BeforeValidator(
        _one_of(
            _COUNTED,
            f"{', '.join(get_args(BreakerWord))}, a status from 400 to 599 or a gRPC status such "
            "as unavailable",
        )
    ),
]
"""What a breaker counts."""


def statuses(failures: list[RetriedFailure] | list[BreakerFailure]) -> list[int]:
    """The HTTP statuses that these name, in order."""
    named: set[int] = set()
    for failure in failures:
        named.update((failure,) if isinstance(failure, int) else _STATUSES.get(failure, ()))
    return sorted(named)


def grpc_statuses(failures: list[RetriedFailure] | list[BreakerFailure]) -> list[int]:
    """The gRPC statuses that these name, in order."""
    return sorted({_GRPC_NUMBERS[name] for name in failures if name in _GRPC_NUMBERS})
