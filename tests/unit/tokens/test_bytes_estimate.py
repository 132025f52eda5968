from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkrate.tokens.bytes_estimate import BytesEstimate


@given(text=st.text(st.characters(exclude_categories=("Cs",))), ratio=st.sampled_from([2.2, 2.8, 3.0, 4.0]))
def test_a_text_is_its_bytes_over_the_ratio_rounded_up(text: str, ratio: float) -> None:
    assert BytesEstimate(ratio).count_texts([text]) == [math.ceil(len(text.encode()) / ratio)]


def test_a_chat_adds_its_overhead() -> None:
    counter = BytesEstimate(2.0, message_tokens=4, reply_tokens=3)
    assert counter.count_chats([[("system", "four"), ("user", "six bytes.")], []]) == [3 + 4 + 2 + 4 + 5, 3]


def test_the_estimate_states_its_figure_and_why() -> None:
    assert (
        BytesEstimate(2.75, remark="no vocabulary").source == "estimate: 2.75 bytes a token (no vocabulary)"
    )


def test_a_ratio_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        BytesEstimate(0)
