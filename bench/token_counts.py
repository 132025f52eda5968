"""Exact token counts beside tiktoken, in one run: prints one JSON line.

    .venv/bin/python bench/token_counts.py [--texts 20000] [--rounds 3] [--encoding o200k_base]

``ratio`` is tiktoken's best time, on one thread or on all, over our best time. The texts are distinct.
``ratio_first_pass`` is the same for the first pass, before any cache inside a tokenizer is warm.
The counts of the two are compared text by text; a difference ends the run with exit code 1.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import distribution
from pathlib import Path

import tiktoken

from bulkrate.tokens.openai_vocabulary import OpenAIVocabularyCounter

DATA = Path(__file__).parents[1].parent / "shared" / "data"
TEXT_CHARS = 1200
"""300 to 360 tokens of mixed prose, tables and JSON."""


def texts(count: int) -> tuple[list[str], str]:
    """``count`` distinct texts, and what they are made of."""
    chosen = list(dict.fromkeys(_real_texts(count))) if DATA.is_dir() else []
    if len(chosen) >= count:
        return chosen[:count], "shared real data"
    return [
        *chosen,
        *_generated_texts(count - len(chosen)),
    ], "generated" if not chosen else "real and generated"


def _real_texts(count: int) -> Iterator[str]:
    """Slices of every text file in turn, so that no single file makes up the sample."""
    kinds = {".csv", ".json", ".jsonl", ".txt", ".md", ".tsv"}
    paths = [path for path in sorted(DATA.rglob("*")) if path.suffix in kinds]
    sources = [path.read_text(encoding="utf-8", errors="replace")[:2_000_000] for path in paths]
    longest = max(map(len, sources), default=0)
    for start in range(0, longest, TEXT_CHARS):
        for source in sources:
            if piece := source[start : start + TEXT_CHARS]:
                yield piece


def _generated_texts(count: int) -> Iterator[str]:
    chance = random.Random(1)
    letters = "eeeetttaaooiinnsshhrrddlucmfwypvbgkqjxz"
    words = ["".join(chance.choices(letters, k=chance.randint(2, 11))) for _ in range(20_000)]
    for _ in range(count):
        text = ""
        while len(text) < TEXT_CHARS:
            text += " ".join(chance.choices(words, k=12)) + chance.choice([". ", ", ", ": 17.50\n", "\n\n"])
        yield text


def reference(name: str) -> tiktoken.Encoding:
    """tiktoken's encoding, its vocabulary taken from ``bpe-openai`` instead of the network."""
    url = f"https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
    packed = Path(str(distribution("bpe-openai").locate_file(f"bpe_openai/data/{name}.tiktoken.gz")))
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / hashlib.sha1(url.encode()).hexdigest()).write_bytes(
            gzip.decompress(packed.read_bytes())
        )
        os.environ["TIKTOKEN_CACHE_DIR"] = directory
        return tiktoken.get_encoding(name)


def timed(count: Callable[[], list[int]]) -> tuple[float, list[int]]:
    start = time.perf_counter()
    counts = count()
    return time.perf_counter() - start, counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--encoding", default="o200k_base", choices=["o200k_base", "cl100k_base"])
    options = parser.parse_args()

    sample, made_of = texts(options.texts)
    encoding = reference(options.encoding)
    cores = os.cpu_count() or 1
    counter = OpenAIVocabularyCounter(options.encoding)
    counter.count_texts(["the vocabulary is loaded before the clock starts"])

    ours, theirs, differing = [], [], 0
    for _ in range(options.rounds):
        seconds, counts = timed(lambda: counter.count_texts(sample))
        ours.append(seconds)
        one, expected = timed(lambda: [len(encoding.encode_ordinary(text)) for text in sample])
        batch, _ = timed(
            lambda: [len(tokens) for tokens in encoding.encode_ordinary_batch(sample, num_threads=cores)]
        )
        theirs.append(min(one, batch))
        differing += sum(a != b for a, b in zip(counts, expected, strict=True))
    print(
        json.dumps(
            {
                "bench": "token_counts",
                "encoding": options.encoding,
                "texts": len(sample),
                "made_of": made_of,
                "tokens": sum(expected),
                "seconds": round(min(ours), 3),
                "tiktoken_seconds": round(min(theirs), 3),
                "ratio": round(min(theirs) / min(ours), 1),
                "ratio_first_pass": round(theirs[0] / ours[0], 1),
                "texts_that_differ": differing,
                "cores": cores,
            }
        )
    )
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
