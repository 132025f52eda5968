"""The page about the command line says what the command line says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[3] / "docs" / "reference"


def test_the_page_is_fresh() -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import generate_cli; print(generate_cli.page(), end='')"
    )
    written = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert written == (FOLDER / "cli.md").read_text(encoding="utf-8"), (
        "run: python docs/reference/generate_cli.py"
    )
