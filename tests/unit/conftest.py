"""What all unit tests share: hypothesis without its deadline, since how long a test takes is no promise."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("tessera", deadline=None)
settings.load_profile("tessera")
