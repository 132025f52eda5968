"""The hard bound: a sum that holds at any number of drawn rows and for any shape of answers, given a cap.

The one-sided betting bound of Waudby-Smith and Ramdas ("Estimating means of bounded random variables by
betting", 2020) for drawing without replacement. For a mean that is claimed one bets, row by row, that the
next value lies below it; were the claim true, the stake would grow to 1/risk with a chance of at most `risk`
(Ville). What the bets made unbelievable is ruled out. No normal law and no large numbers are needed, only the
cap and a random order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

RISK = 0.05

# How much of what could be lost on one row is staked at most: a row at the cap never takes everything.
_MOST_STAKED = 0.9
_STEPS = 40


def hard_bound(values: Sequence[float], *, rows: int, cap: float, risk: float = RISK) -> float:
    """What the sum of all `rows` rows stays under, but for a chance of `risk`.

    `values` are those of rows drawn at random from all, in the order they were drawn. Each must be within 0
    and `cap`, and so must those of the rows not drawn. Raises ValueError otherwise.
    """
    if not 0 < risk < 1:
        raise ValueError(f"a risk is between 0 and 1: {risk}")
    if len(values) > rows:
        raise ValueError(f"{len(values)} values of {rows} rows")
    if any(not 0 <= value <= cap for value in values):
        raise ValueError(f"a value outside 0 to {cap}")
    seen = float(sum(values))
    most = seen + cap * (rows - len(values))
    if cap == 0 or len(values) in (0, rows):
        return most
    shares = [value / cap for value in values]
    stakes = _stakes(shares, risk)
    # Winnings rise with the claimed mean: what lies above the first mean that is ruled out is ruled out, too.
    believed, ruled_out = seen / cap / rows, 1.0
    if not _ruled_out(ruled_out, shares, stakes, rows, risk):
        return most
    for _ in range(_STEPS):
        middle = (believed + ruled_out) / 2
        if _ruled_out(middle, shares, stakes, rows, risk):
            ruled_out = middle
        else:
            believed = middle
    return min(ruled_out * cap * rows, most)


def _stakes(shares: Sequence[float], risk: float) -> list[float]:
    """What to stake on each row, by the spread of the rows before it: best for so many rows so spread."""
    stakes = []
    total, squares = 0.5, 0.25  # as if one row at the middle had been seen, with the widest spread
    for index, share in enumerate(shares):
        stakes.append(math.sqrt(2 * math.log(1 / risk) * (index + 1) / (len(shares) * squares)))
        total += share
        squares += (share - total / (index + 2)) ** 2
    return stakes


def _ruled_out(mean: float, shares: Sequence[float], stakes: Sequence[float], rows: int, risk: float) -> bool:
    """Whether the bets against that mean of all rows ever won 1/risk times the stake."""
    left = mean * rows
    capital = 1.0
    for index, (share, stake) in enumerate(zip(shares, stakes, strict=True)):
        expected = left / (rows - index)
        if expected > 1.0:
            return True  # even if every row that is left were at the cap
        if expected < 0.0:
            return False
        capital *= 1.0 - min(stake, _MOST_STAKED / max(1.0 - expected, 1e-12)) * (share - expected)
        if capital >= 1.0 / risk:
            return True
        left -= share
    return False
