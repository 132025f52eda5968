"""The page about the command line says what the command line says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[3] / "docs" / "reference"
PROGRAM = "import generate_cli; print(generate_cli.page(), end='')"


def test_the_page_is_fresh() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, cwd=FOLDER, check=False
    )
    assert done.returncode == 0, done.stderr
    page = (FOLDER / "cli.md").read_text(encoding="utf-8")
    assert done.stdout == page, "run: python docs/reference/generate_cli.py"
