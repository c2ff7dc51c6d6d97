"""Where things lie, for tests in any room."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parent
CHECKOUT = TESTS.parent
