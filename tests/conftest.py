"""What all tests share: one hypothesis profile, exact where CI is set."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile(
    "openbutter", deadline=None, print_blob=True, derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("openbutter")
