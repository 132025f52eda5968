"""Budgets in words: what is refused because of a limit, why, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from math import ceil

from bulkrate.core.budget import Held, Limit, Scope, fits
from bulkrate.errors import Refused
from bulkrate.pricing.money import CURRENCY, format_money

NAMES = {
    Scope.RUN: "limit",
    Scope.JOB: "job's monthly budget",
    Scope.LEDGER: "ledger's monthly budget",
}
_RAISE = {
    Scope.RUN: "raise --max-cost",
    Scope.JOB: "raise budget.month in the job file",
    Scope.LEDGER: "raise it by `bulkrate budget AMOUNT`",
}
_WITHOUT = {
    Scope.RUN: "run without --max-cost",
    Scope.JOB: "leave budget.month out",
    Scope.LEDGER: "take the budget away by `bulkrate budget none`",
}

# From so many answers on their 99.5th percentile has an upper bound that needs no assumption (95 %).
_RANKED_FROM = 598
_QUANTILE, _Z = 0.995, 1.645
_MARGIN = 1.5
_STEP = 16

OTHERWISE = "lower request.max_output_tokens, or send fewer rows"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is about to be spent: at worst `amount` (None: nobody knows), as `what` calls it."""

    amount: Decimal | None
    what: str
    model: str  # "provider/model"
    priced: bool = True
    currency: str = CURRENCY
    proposed_cap: int | None = None  # a cap on output that earlier answers would have kept
    otherwise: str = OTHERWISE


def hold(limit: Limit, so_far: Held, wanted: Wanted) -> None:
    """Refuse what may take more than is left of the limit, or what nobody knows the worst case of."""
    if fits(limit, so_far, wanted.amount):
        return
    of = format_money(limit.amount, wanted.currency)
    name = NAMES[limit.scope]
    if wanted.amount is None:
        raise _unknown(limit, f"a {name} of {of} cannot be kept", wanted)
    if so_far.unbounded:
        raise Refused(
            f"the {name} of {of} cannot be kept now: {so_far.unbounded:,} shards under way have no upper end",
            code="over_budget",
            hint=f"wait until they have ended, or {_WITHOUT[limit.scope]}",
        )
    most = format_money(wanted.amount, wanted.currency, rounding=ROUND_CEILING)
    code = "over_max_cost" if limit.scope is Scope.RUN else "over_budget"
    hint = f"{_RAISE[limit.scope]}, {wanted.otherwise}"
    if not so_far.amount:
        raise Refused(f"{wanted.what} of {most} is over the {name} of {of}", code=code, hint=hint)
    taken = [
        f"{format_money(amount, wanted.currency)} {word}"
        for amount, word in ((so_far.spent, "spent"), (so_far.under_way, "reserved for what is under way"))
        if amount
    ]
    raise Refused(
        f"{wanted.what} of {most} is over what is left of the {name} of {of}: {', '.join(taken)}",
        code=code,
        hint=hint,
    )


def _unknown(limit: Limit, what: str, wanted: Wanted) -> Refused:
    if not wanted.priced:
        return Refused(
            f"{what}: price unknown for {wanted.model}",
            code="price_unknown",
            hint=f"check the model's name, give it a price in prices.toml, or {_WITHOUT[limit.scope]}",
        )
    proposal = ""
    if wanted.proposed_cap is not None:
        proposal = f" ({wanted.proposed_cap:,} would have held the job's earlier answers)"
    return Refused(
        f"{what}: without a cap on output the ceiling is unknown",
        code="no_output_cap",
        hint=f"set request.max_output_tokens{proposal}, or {_WITHOUT[limit.scope]}",
    )


def proposed_cap(lengths: Sequence[int]) -> int | None:
    """A cap on output that nearly all answers stay under, from the tokens of some that were not cut.

    Of many: the upper bound of their 99.5th percentile; of few: half as much again as the longest.
    """
    if not lengths:
        return None
    ordered, count = sorted(lengths), len(lengths)
    if count >= _RANKED_FROM:
        spread = _Z * (count * _QUANTILE * (1 - _QUANTILE)) ** 0.5
        longest: float = ordered[min(ceil(count * _QUANTILE + spread), count) - 1]
    else:
        longest = _MARGIN * ordered[-1]
    return max(ceil(longest / _STEP), 1) * _STEP
