"""Logs what is surely a mistake in a configuration, each thing once."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

from meshcore.config.warnings import warn
from meshcore.config.warnings.hosts import unresolved_hosts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshcore.config.load import Loaded
    from meshcore.errors import Diagnostic

log = logging.getLogger("meshcore")

# How many are logged; `meshcore check` shows all.
MOST: Final = 20


class Warned:
    """What was logged of the configuration before this one is not logged again."""

    def __init__(self) -> None:
        self._of_file: set[str] = set()
        self._of_hosts: set[str] = set()

    def log_new(self, loaded: Loaded) -> None:
        """What the configuration shows at once; what the resolver says, from a thread, seconds
        later: start and reload do not wait for it."""
        self._of_file = _log_new(loaded.placed(warn(loaded.config)), self._of_file)
        thread = threading.Thread(target=self._ask, args=(loaded,), name="warn", daemon=True)
        thread.start()

    def _ask(self, loaded: Loaded) -> None:
        self._of_hosts = _log_new(loaded.placed(unresolved_hosts(loaded.config)), self._of_hosts)


def _log_new(problems: Iterable[Diagnostic], known: set[str]) -> set[str]:
    """Log those that are not known by what they say, wherever it stands now; what is known then."""
    now = {f"{problem.path}: {problem.message}": problem for problem in problems}
    new = [problem for said, problem in now.items() if said not in known]
    for problem in new[:MOST]:
        log.warning("%s", problem.as_warning())
    if len(new) > MOST:
        log.warning("and %d more warnings: meshcore check tells them", len(new) - MOST)
    return set(now)
