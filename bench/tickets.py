"""Made-up support tickets: about 300 tokens a row, the same for everyone who generates them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from bulkrate.core.identity import NUMBER_LENGTH, base36
from bulkrate.jobs.load import load_job_mapping
from bulkrate.jobs.spec import Job

SENTENCES = 100_000
SENTENCES_A_ROW = 14
LABELS = ["billing", "bug", "delivery", "account", "other"]
SYSTEM = "You sort support tickets. Answer with the one label that fits best."
PROMPT = "Product: {{ product }}\nSubject: {{ subject }}\n\n{{ body }}\n\nWhich label fits?"
MODEL = "gpt-4o-mini"
WORDS = """
    the a to of and in is it for not on with was my that this you have be are as at from or an but we
    our order invoice paid payment card charged twice refund account login password reset email address
    phone app crashed screen update version device printer cable battery warranty repair delivery parcel
    courier late lost broken box street number customer support agent called waited hours yesterday
    Monday Tuesday week month since still again nothing works help please thanks café naïve über
    resolved replaced manual page button error message file report download upload settings menu option
    language currency price discount subscription cancel renew trial plan team user admin role
    permission access denied network server slow timeout connection lamp chair desk blue red large small
    heavy missing part screw instructions return label shop online receipt date
"""


def _sentences() -> list[str]:
    chance = random.Random(7)
    words = WORDS.split()
    return [" ".join(chance.choices(words, k=chance.randint(8, 16))) + "." for _ in range(SENTENCES)]


def rows(count: int) -> Iterator[dict[str, Any]]:
    """Tickets with an id, a product, a subject, a body and a priority; bodies differ from each other."""
    pool = _sentences()
    for number in range(count):
        start, step = number % SENTENCES, 1 + number // SENTENCES
        body = " ".join([pool[(start + step * place) % SENTENCES] for place in range(SENTENCES_A_ROW)])
        yield {
            "id": f"T-{number:08d}",
            "product": f"product {number % 37}",
            "subject": pool[(start * 7 + step) % SENTENCES][:60],
            "body": body,
            "priority": number % 5,
        }


def write_source(path: Path, count: int) -> None:
    """The tickets as JSON Lines."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.writelines(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows(count))
    part.replace(path)


def job_over(source: Path) -> Job:
    """One label for each ticket."""
    document = {
        "name": "bench",
        "source": {"path": source.name, "key": "id"},
        "request": {
            "model": f"openai/{MODEL}",
            "system": SYSTEM,
            "prompt": PROMPT,
            "output": {"choice": LABELS},
            "max_output_tokens": 20,
        },
        "lane": {"poll": 0.2},
        "sink": {"path": "answers.jsonl", "include": "key"},
    }
    return load_job_mapping(document, source.parent)


def results(custom_ids: Iterator[str] | list[str], shard: int) -> Iterator[bytes]:
    """Result lines as OpenAI writes them, in an order that has nothing to do with the requests'."""
    ids = list(custom_ids)
    random.Random(shard).shuffle(ids)
    for number, custom_id in enumerate(ids):
        serial = base36(number, 8)
        yield orjson.dumps(
            {
                "id": f"batch_req_{shard:04d}{serial}",
                "custom_id": custom_id,
                "response": {
                    "status_code": 200,
                    "request_id": f"req_{shard:04d}{serial}",
                    "body": {
                        "id": f"chatcmpl-{shard:04d}{serial}",
                        "object": "chat.completion",
                        "created": 1_780_000_000,
                        "model": "gpt-4o-mini-2024-07-18",
                        "choices": [
                            {
                                "index": 0,
                                "message": {
                                    "role": "assistant",
                                    "content": f'{{"label":"{LABELS[number % len(LABELS)]}"}}',
                                    "refusal": None,
                                    "annotations": [],
                                },
                                "logprobs": None,
                                "finish_reason": "stop",
                            }
                        ],
                        "usage": {
                            "prompt_tokens": 300 + number % 50,
                            "completion_tokens": 6,
                            "total_tokens": 306 + number % 50,
                            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
                        },
                        "service_tier": "default",
                        "system_fingerprint": "fp_0392822090",
                    },
                },
                "error": None,
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )


def custom_ids(prefix: str, count: int) -> list[str]:
    """The custom_ids of one shard."""
    return [prefix + base36(number, NUMBER_LENGTH) for number in range(count)]
