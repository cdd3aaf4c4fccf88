"""Tests against a real gateway process: ``pytest -m live tests/live``."""
