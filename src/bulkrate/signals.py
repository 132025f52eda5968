"""Named moments in the code that a test can wait on, or die at.

`signal("create.before")` costs one comparison when nobody listens. Production code never listens; the kill
tests set `listen` in a real process to end it at an exact moment, instead of sleeping and hoping.
"""

from __future__ import annotations

from collections.abc import Callable

_listener: Callable[[str], None] | None = None


def listen(listener: Callable[[str], None] | None) -> None:
    """Call `listener` with each signal's name from now on; None stops it."""
    global _listener  # noqa: PLW0603 - one listener per process is the point
    _listener = listener


def signal(name: str) -> None:
    """Announce a moment: `<effect>.before` or `<effect>.after`."""
    if _listener is not None:
        _listener(name)
