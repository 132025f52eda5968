"""Fail when a Python file is too long: over 400 lines is a reason to split, over 600 is an error."""

from __future__ import annotations

import sys
from pathlib import Path

WARN, FAIL = 400, 600


def main() -> int:
    root = Path(__file__).parent.parent
    status = 0
    for folder in ("src", "tests", "bench", "examples"):
        for path in sorted((root / folder).rglob("*.py")):
            lines = len(path.read_text(encoding="utf-8").splitlines())
            if lines > FAIL:
                print(f"error: {path.relative_to(root)}: {lines} lines, the limit is {FAIL}", file=sys.stderr)
                status = 1
            elif lines > WARN:
                print(f"warning: {path.relative_to(root)}: {lines} lines, {WARN} is a reason to split")
    return status


if __name__ == "__main__":
    sys.exit(main())
