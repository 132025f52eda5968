"""Embeddings: a text's vector, as numbers of 32 bits, packed.

What a dialect's `decode` leaves as the text of an embedding's outcome is OpenAI's list of data,
`[{"embedding": [0.1, …]}]`, the numbers in JSON or their bytes in base64. Here it becomes the bytes that are
kept: a quarter of the size, and no number is parsed twice. (The word vector is taken: see `core.vector`.)
"""

from __future__ import annotations

import base64
import binascii
import sys
from array import array
from math import isfinite

import msgspec

from bulkrate.core.outcome import ErrorClass, Outcome

NUMBER_BYTES = 4


class _Entry(msgspec.Struct, gc=False):
    embedding: list[float] | str


_decode = msgspec.json.Decoder(list[_Entry]).decode


def embedded(outcome: Outcome, dimensions: int | None) -> Outcome:
    """The outcome with its text made an embedding, of `dimensions` numbers if that many were asked for."""
    if outcome.error is not None or outcome.text is None:
        return outcome
    packed, reason = _read(outcome.text)
    if packed is not None and dimensions is not None and len(packed) != NUMBER_BYTES * dimensions:
        size = len(packed) // NUMBER_BYTES
        packed, reason = None, f"the embedding has {size:,} numbers, not the {dimensions:,} asked for"
    error = None if packed is not None else ErrorClass.INVALID_OUTPUT
    return Outcome(error, reason, None, outcome.finish_reason, outcome.model, outcome.usage, embedding=packed)


def _read(text: str) -> tuple[bytes | None, str | None]:
    try:
        entries = _decode(text)
    except msgspec.MsgspecError:
        return None, "the answer holds no embedding that can be read"
    if len(entries) != 1:
        return None, f"the answer holds {len(entries):,} embeddings, not one"
    given = entries[0].embedding
    if isinstance(given, str):
        try:
            packed = base64.b64decode(given, validate=True)
        except binascii.Error:
            packed = b""
        if not packed or len(packed) % NUMBER_BYTES:
            return None, "the embedding is not the base64 of 32-bit numbers"
    else:
        packed = pack(given)
    if not packed:
        return None, "the embedding is empty"
    # Not a number, or too large for 32 bits: one such number makes the sum no number, too.
    if not isfinite(sum(unpack(packed))):
        return None, "the embedding holds what is no number of 32 bits"
    return packed, None


def pack(numbers: list[float]) -> bytes:
    """The numbers as 32-bit floats, little-endian."""
    return _swapped(array("f", numbers)).tobytes()


def unpack(packed: bytes) -> array[float]:
    """The numbers back; the array gives its memory to whoever can use a buffer."""
    return _swapped(array("f", packed))


def decimals(embedding: array[float]) -> list[float]:
    """The numbers for JSON: nine digits, which is what 32 bits can tell apart, not the seventeen of 64."""
    return [float(f"{number:.9g}") for number in embedding]


def _swapped(numbers: array[float]) -> array[float]:
    if sys.byteorder == "big":  # pragma: no cover - no supported platform
        numbers.byteswap()
    return numbers
