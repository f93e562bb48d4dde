"""Whom TLS believes, in both directions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore._core import TlsTrust

if TYPE_CHECKING:
    from meshcore.config.snapshot import TrustSpec


def trust(spec: TrustSpec | None, *, system: bool = False) -> TlsTrust | None:
    """The spec as the core takes it; ``system``: where it names no authorities, the system's count.

    Raises `ConfigError` for what cannot be used.
    """
    if spec is None:
        return None
    return TlsTrust(
        spec.ca_pem.encode() if spec.ca_pem is not None else None,
        system=system and not spec.domains,
        domains=[(name, pem.encode()) for name, pem in spec.domains],
        crl=spec.crl_pem,
        use_expired_crl=spec.use_expired_crl,
        names=list(spec.names),
        required=spec.required,
    )
