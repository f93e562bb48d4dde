"""The layer in Python whose cost is measured."""

from __future__ import annotations

import meshcore


class SetTenant(meshcore.Layer):
    """Sets one header."""

    def on_request(self, request: meshcore.Request) -> None:
        """Every request is of one tenant."""
        request.set_header("x-tenant", "acme")
