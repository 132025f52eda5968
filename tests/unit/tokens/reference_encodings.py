"""tiktoken as the reference, fed from the vocabulary files inside ``bpe-openai``: nothing is downloaded."""

from __future__ import annotations

import gzip
import hashlib
from importlib.metadata import distribution
from pathlib import Path

import pytest
import tiktoken

DATA = Path(__file__).parents[3].parent / "shared" / "data"
"""Real data that is not part of the project; tests that read it skip when it is absent."""

# tiktoken 0.14 knows Unicode 17 (September 2025); toktok 0.3 does not. Beside the characters that version
# added, the two may split words differently. Which version OpenAI's servers run is not public.
UNICODE_17 = [
    (0x088F, 0x088F),
    (0x0C5C, 0x0C5C),
    (0x0CDC, 0x0CDC),
    (0x1ACF, 0x1AEB),
    (0xA7CE, 0xA7D4),
    (0xA7F1, 0xA7F1),
    (0x10940, 0x10959),
    (0x10EC5, 0x10EFB),
    (0x11B60, 0x11B67),
    (0x11DB0, 0x11DE9),
    (0x16EA0, 0x16ED3),
    (0x16FF2, 0x16FF6),
    (0x187F8, 0x187FF),
    (0x18D09, 0x18DF2),
    (0x1E6C0, 0x1E6FF),
    (0x2B73A, 0x2B73F),
    (0x2CEA2, 0x2CEAD),
    (0x323B0, 0x33479),
]
UNICODE_17_CHARACTERS = "".join(chr(c) for first, last in UNICODE_17 for c in range(first, last + 1))


def reference_encoding(name: str, directory: Path) -> tiktoken.Encoding:
    """tiktoken's own ``name`` encoding, from a vocabulary file put where tiktoken caches its downloads."""
    url = f"https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
    packed = Path(str(distribution("bpe-openai").locate_file(f"bpe_openai/data/{name}.tiktoken.gz")))
    cached = directory / hashlib.sha1(url.encode()).hexdigest()
    cached.write_bytes(gzip.decompress(packed.read_bytes()))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TIKTOKEN_CACHE_DIR", str(directory))
        return tiktoken.get_encoding(name)


def reference_counts(encoding: tiktoken.Encoding, texts: list[str]) -> list[int]:
    return [len(tokens) for tokens in encoding.encode_ordinary_batch(texts)]
