"""What is allowed and surely a mistake: a file for each kind of it, and a table of all checks.

A warning is a `Diagnostic` that keeps no program from starting. A check looks at the configuration,
and at the files that it names, and is never wrong: where a reader could say "but I meant that", it
is silent. What must ask the resolver or Python's import is not in the table: `hosts`
here, layers in `cli/check.py`; nor what `check` alone tells of, secrets of this host in `secrets`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshcore.config.warnings.allow import (
    any_methods,
    rules_that_never_hold,
    rules_without_effect,
    shadows_alone,
)
from meshcore.config.warnings.certificates import certificates
from meshcore.config.warnings.forged import forged_fields
from meshcore.config.warnings.forwarded import unasked_certificates
from meshcore.config.warnings.paths import literal_wildcards, refused_paths
from meshcore.config.warnings.plain import plain_endpoints
from meshcore.config.warnings.routes import unreachable_routes
from meshcore.config.warnings.secrets import open_ticket_keys
from meshcore.config.warnings.times import idle_times
from meshcore.config.warnings.unused import listeners_without_routes, unused_upstreams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from meshcore.config.model import Config
    from meshcore.errors import Diagnostic

__all__ = ["CHECKS", "warn"]

CHECKS: Final[tuple[Callable[[Config], Iterator[Diagnostic]], ...]] = (
    unreachable_routes,
    literal_wildcards,
    refused_paths,
    rules_that_never_hold,
    rules_without_effect,
    any_methods,
    shadows_alone,
    unasked_certificates,
    forged_fields,
    idle_times,
    certificates,
    open_ticket_keys,
    plain_endpoints,
    unused_upstreams,
    listeners_without_routes,
)


def warn(config: Config) -> list[Diagnostic]:
    """Every warning, check by check; who knows the places in the file puts them in order.

    O(configuration)."""
    return [problem for check in CHECKS for problem in check(config)]
