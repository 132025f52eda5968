"""The texts of a body in a provider's own words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bulkrate.jobs.document import Place

# Where providers keep the bytes of a file.
_DATA_FIELDS = frozenset({"bytes", "data", "file_data"})


def strings_in(value: Any, place: Place = ()) -> Iterator[tuple[Place, str]]:
    """All texts of a JSON value, each with its place, in their order."""
    match value:
        case str():
            yield place, value
        case Mapping():
            for name, item in value.items():
                yield from strings_in(item, (*place, name))
        case Sequence():
            for number, item in enumerate(value):
                yield from strings_in(item, (*place, number))


def is_data(place: Place, text: str) -> bool:
    """Whether it holds the bytes of a file, and is no text to be counted."""
    return place[-1] in _DATA_FIELDS or text.lstrip().startswith("data:")
