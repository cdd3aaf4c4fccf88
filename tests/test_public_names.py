"""Every public module has what it says it has."""

from __future__ import annotations

import importlib

import pytest


@pytest.mark.parametrize(
    "name",
    [
        "butter_proto",
        "butter_proto.storage",
        "butter_proto.testing",
        "butter_proto.testing.recording",
        "butter_trio",
        "butter_threads",
    ],
)
def test_every_name_that_a_module_exports_is_there(name: str) -> None:
    module = importlib.import_module(name)
    assert [export for export in module.__all__ if not hasattr(module, export)] == []
