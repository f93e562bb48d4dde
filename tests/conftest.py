"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# How fast an example runs is the machine's, which has other work.
settings.register_profile("meshcore", deadline=None)
settings.load_profile("meshcore")
