"""Looks for what this folder needs before anything else does: one sentence says how to get it."""

from __future__ import annotations

from butter_proto.errors import StoreError

try:
    import cryptography
    import filelock
    import platformdirs
except ModuleNotFoundError as missing:
    raise StoreError(
        f"keeping a device in files needs {missing.name}: pip install 'openbutter[device]'"
    ) from missing

__all__ = ["cryptography", "filelock", "platformdirs"]
