"""Names that tie remote work to a run, deterministically.

The run tag is a hash of what is asked of whom over which rows, so the same job on an empty disk makes the
same tag and finds its own batches at the provider. The `custom_id` is 20 lower-case letters and digits:
tag 10, shard 5, request 5, in base 36. It is the strictest shape any known provider accepts, and it tells
an orphan's owner from a single result line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import product

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
TAG_LENGTH = 10
NUMBER_LENGTH = 5
CUSTOM_ID_LENGTH = TAG_LENGTH + 2 * NUMBER_LENGTH
MAX_NUMBER = 36**NUMBER_LENGTH - 1

_ALLOWED = frozenset(DIGITS)


def base36(number: int, width: int) -> str:
    """`number` in base 36, padded with zeros to `width`. Raises ValueError when it does not fit."""
    if number < 0:
        raise ValueError(f"cannot write {number} in base 36")
    digits: list[str] = []
    rest = number
    while rest:
        rest, digit = divmod(rest, 36)
        digits.append(DIGITS[digit])
    text = "".join(reversed(digits)).rjust(width, "0")
    if len(text) > width:
        raise ValueError(f"{number} does not fit in {width} base-36 digits")
    return text


def counted(width: int) -> Iterator[str]:
    """0, 1, 2, … in base 36, padded to `width`: what `base36` gives, many times as fast."""
    return map("".join, product(DIGITS, repeat=width))


def run_tag(*, job: bytes, snapshot: str, model: str, nonce: str = "") -> str:
    """The run's tag: 10 base-36 digits (51 bits) of a hash over job, source snapshot, model and nonce.

    `job` is the canonical encoding of the answer-relevant part of the job, `snapshot` the digest of the
    source's content, `nonce` is empty unless the user asked for a fresh run.
    """
    digest = blake2b(digest_size=16, person=b"bulkrate.tag.1")
    for field in (job, snapshot.encode(), model.encode(), nonce.encode()):
        digest.update(len(field).to_bytes(8, "big"))
        digest.update(field)
    return base36(int.from_bytes(digest.digest(), "big") % 36**TAG_LENGTH, TAG_LENGTH)


@dataclass(frozen=True, slots=True)
class RequestId:
    """What a `custom_id` says: whose it is, which shard, which request in it (both from 0)."""

    tag: str
    shard: int
    request: int

    def __str__(self) -> str:
        return self.tag + base36(self.shard, NUMBER_LENGTH) + base36(self.request, NUMBER_LENGTH)


def shard_prefix(tag: str, shard: int) -> str:
    """The first 15 characters that all custom_ids of a shard share."""
    return tag + base36(shard, NUMBER_LENGTH)


def parse_custom_id(text: str) -> RequestId | None:
    """Read a `custom_id`; None when it is not one of ours (a stranger's line is never an error)."""
    if len(text) != CUSTOM_ID_LENGTH or not _ALLOWED.issuperset(text):
        return None
    return RequestId(
        tag=text[:TAG_LENGTH],
        shard=int(text[TAG_LENGTH : TAG_LENGTH + NUMBER_LENGTH], 36),
        request=int(text[TAG_LENGTH + NUMBER_LENGTH :], 36),
    )


def request_number(custom_id: str, prefix: str) -> int | None:
    """The request's number in the shard that `prefix` is of; None when the `custom_id` is not of it."""
    number = custom_id[len(prefix) :]
    if len(number) != NUMBER_LENGTH or not custom_id.startswith(prefix) or not _ALLOWED.issuperset(number):
        return None
    return int(number, 36)


def shard_digest(parts: Iterable[bytes | memoryview]) -> str:
    """Hex digest of a shard's content (fingerprints in order, and its cap): equal shards, equal digest."""
    digest = blake2b(digest_size=16, person=b"bulkrate.shard.1")
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
