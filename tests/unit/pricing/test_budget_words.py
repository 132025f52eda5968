"""What a limit refuses, in which words, and the cap that is proposed where one is missing."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkrate.core.budget import Held, Limit, Scope, fits
from bulkrate.errors import Refused
from bulkrate.pricing.budgets import Wanted, hold, proposed_cap

MODEL = "openai/gpt-4o-mini"
AMOUNTS = st.decimals(0, 100, places=6)


@given(
    st.builds(Limit, st.sampled_from(Scope), AMOUNTS),
    st.builds(Held, AMOUNTS, AMOUNTS, st.integers(0, 2), st.integers(0, 2)),
    st.none() | AMOUNTS,
    st.booleans(),
)
def test_what_fits_is_never_refused_and_what_does_not_always(
    limit: Limit, held: Held, amount: Decimal | None, priced: bool
) -> None:
    wants = Wanted(amount, "the ceiling", MODEL, priced=priced)
    if fits(limit, held, amount):
        hold(limit, held, wants)
    else:
        with pytest.raises(Refused) as refused:
            hold(limit, held, wants)
        assert refused.value.exit_code == 4
        assert refused.value.hint


def test_the_refusal_says_what_is_taken_and_how_to_go_on() -> None:
    limit, held = Limit(Scope.JOB, Decimal(10)), Held(spent=Decimal(4), under_way=Decimal(5))
    with pytest.raises(Refused) as refused:
        hold(limit, held, Wanted(Decimal("1.001"), "the next shard's ceiling", MODEL))
    assert refused.value.message == (
        "the next shard's ceiling of 1.01 USD is over what is left of the job's monthly budget of 10.00 USD: "
        "4.00 USD spent, 5.00 USD reserved for what is under way"
    )
    assert (refused.value.hint or "").startswith("raise budget.month in the job file")


def test_a_cap_is_proposed_from_what_was_seen() -> None:
    with pytest.raises(Refused) as refused:
        hold(Limit(Scope.LEDGER, Decimal(10)), Held(), Wanted(None, "the ceiling", MODEL, proposed_cap=48))
    assert refused.value.hint == (
        "set request.max_output_tokens (48 would have held the job's earlier answers), or take the budget "
        "away by `bulkrate budget none`"
    )


def test_the_cap_of_few_answers_has_a_margin_and_that_of_none_is_none() -> None:
    assert proposed_cap([]) is None
    assert proposed_cap([1]) == 16
    assert proposed_cap([6, 21, 40]) == 64


@pytest.mark.parametrize("count", [598, 2_000])
def test_the_cap_of_many_answers_is_over_their_tail_as_often_as_it_says(count: int) -> None:
    chance = random.Random(count)
    lengths = range(100_000)  # the 99.5th percentile is 99,500
    held = [(proposed_cap(chance.choices(lengths, k=count)) or 0) >= 99_500 for _ in range(400)]
    assert sum(held) / len(held) > 0.92


def test_the_cap_of_many_answers_is_not_that_of_an_outlier() -> None:
    assert proposed_cap([100] * 9_990 + [30_000] * 10) == 112
