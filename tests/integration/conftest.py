"""What several tests of whole runs ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from table_desk import Desk


@pytest.fixture
def desk(tmp_path: Path, misbehaving_provider: Any) -> Desk:
    """A desk whose model answers in capitals."""
    return Desk(tmp_path, misbehaving_provider(answer=lambda body: body["messages"][-1]["content"].upper()))
