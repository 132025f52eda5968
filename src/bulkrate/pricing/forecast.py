"""The forecast: what all rows will come to, with a band, from a few that were drawn at random.

Bootstrap-t (Efron and Tibshirani 1993, chapter 12) for a finite population: answers are skewed, and an
interval that is the same to both sides of the estimate is too low where it matters. The factor for drawing
without replacement is in the variance, so a job whose every row was drawn has a band of no width. How often
the band holds on real traces: docs/explanation/forecasts.md.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import mul

from bulkrate.pricing.pilot import Stratum, sort_into_strata, stratify

RESAMPLES = 999
CONFIDENCE = 0.95

# Cochran's rule (Sampling Techniques, 1977, section 2.15): a mean of n values is near enough to normal when n
# is over 25 times their squared skewness, which is a skewness of the mean below 0.2. Past that even
# bootstrap-t falls short, so its tails are taken further out: 98 % where 95 % are wanted.
MOST_SKEWED = 0.2
_TAIL_IF_SKEWED = 0.4

# So few drawn rows say too little about the rows that are open.
_LEAST_OPEN = 10


@dataclass(frozen=True, slots=True)
class Forecast:
    """What all rows come to: within `low` and `high`, in that share (`confidence`) of such forecasts."""

    expected: float
    low: float
    high: float
    confidence: float
    rows: int
    drawn: int
    skewed: bool = False  # a few long answers decide the sum: more drawn rows would help
    assumed: bool = False  # rows that were not drawn at random stand for those still open

    def plus(self, known: float) -> Forecast:
        """The same with something on top that is known exactly."""
        return replace(self, expected=self.expected + known, low=self.low + known, high=self.high + known)


def forecast(
    strata: Sequence[Stratum],
    *,
    seed: int | str,
    most: float = math.inf,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
) -> Forecast:
    """The sum over all rows of the strata, from the values of the drawn ones.

    `most` is what the sum cannot exceed, if anything is known about that: the cap times the rows, or the hard
    bound. Raises ValueError when nothing was drawn from a stratum: nothing is known about it then.
    """
    strata = [stratum for stratum in strata if stratum.rows]
    if any(not stratum.values for stratum in strata):
        raise ValueError("a stratum without a drawn row")
    seen = sum(sum(stratum.values) for stratum in strata)
    total, error = _estimate([(stratum, stratum.values) for stratum in strata])
    skewed = abs(_skewness(strata, error)) > MOST_SKEWED
    low = high = total
    if error > 0.0:
        chance = random.Random(f"forecast {seed}")  # noqa: S311 - no secret
        ratios = _ratios(strata, total, chance, resamples)
        tail = (1 - confidence) / 2 * (_TAIL_IF_SKEWED if skewed else 1)
        low = total - error * _quantile(ratios, 1 - tail)
        high = total - error * _quantile(ratios, tail)
    return Forecast(
        total,
        # What was seen is certain.
        low=min(max(low, seen), total),
        high=max(min(high, most), total),
        confidence=confidence,
        rows=sum(stratum.rows for stratum in strata),
        drawn=sum(len(stratum.values) for stratum in strata),
        skewed=skewed,
    )


def forecast_by_others(
    lengths: Mapping[int, int],
    others: Iterable[tuple[int, float]],
    *,
    seed: int | str,
    most: float = math.inf,
) -> Forecast:
    """The sum over rows none of which was drawn, from (input tokens, value) of rows that are not among them.

    Both are taken for a random part of one larger whole: true as far as this work is like that. `assumed`
    says so. Raises ValueError when there are no others.
    """
    strata = [
        Stratum(stratum.rows + len(stratum.values), stratum.values)
        for stratum in sort_into_strata(lengths, others)
    ]
    seen = sum(sum(stratum.values) for stratum in strata)
    found = forecast(strata, seed=seed, most=most + seen).plus(-seen)
    return replace(found, rows=sum(lengths.values()), assumed=True)


def reforecast(
    input_tokens: Sequence[int],
    drawn: Mapping[int, float],
    finished: Mapping[int, float],
    *,
    seed: int | str,
    most: float = math.inf,
) -> Forecast:
    """The forecast for a whole job once part of it is known: what finished, and the band of what is open.

    `finished` holds every row of the shards that ended, drawn ones among them. Those shards were no random
    choice, so they say nothing about the others: the open rows are judged by the drawn rows among them. Only
    when hardly any of those are left do finished rows stand in, and the forecast says so (`assumed`).
    """
    spent = sum(finished.values())
    open_rows = [row for row in range(len(input_tokens)) if row not in finished]
    if not open_rows:
        return forecast([], seed=seed).plus(spent)
    lengths = [input_tokens[row] for row in open_rows]
    sample = {index: drawn[row] for index, row in enumerate(open_rows) if row in drawn}
    if len(sample) >= min(_LEAST_OPEN, len(open_rows)):
        return forecast(stratify(lengths, sample), seed=seed, most=most - spent).plus(spent)
    certain = sum(sample.values())
    known = (*finished.values(), *sample.values())
    stand_in = forecast([Stratum(len(open_rows) - len(sample) + len(known), known)], seed=seed)
    # It covers the known rows too: `spent` and `certain` are in it already.
    low, high = max(stand_in.low, spent + certain), min(stand_in.high, most)
    return replace(
        stand_in, low=low, high=max(high, low), rows=len(open_rows), drawn=len(sample), assumed=True
    )


def _estimate(resampled: Sequence[tuple[Stratum, Sequence[float]]]) -> tuple[float, float]:
    """The total and its standard error."""
    total = variance = 0.0
    for stratum, values in resampled:
        count = len(values)
        mean = sum(values) / count
        total += stratum.rows * mean
        if 1 < count < stratum.rows:
            spread = max(sum(map(mul, values, values)) - count * mean * mean, 0.0) / (count - 1)
            variance += stratum.rows * (stratum.rows - count) * spread / count
    return total, math.sqrt(variance)


def _skewness(strata: Sequence[Stratum], error: float) -> float:
    """Of the total, as far as the drawn rows show it: they rarely hold the longest answer."""
    if error == 0.0:
        return 0.0
    third = 0.0
    for stratum in strata:
        count = len(stratum.values)
        mean = sum(stratum.values) / count
        third += stratum.rows**3 * sum((value - mean) ** 3 for value in stratum.values) / count**3
    return float(third / error**3)


def _ratios(strata: Sequence[Stratum], total: float, chance: random.Random, resamples: int) -> list[float]:
    """How far off, in its own standard errors, the estimate from a resample is: in order."""
    ratios = []
    for _ in range(resamples):
        again, error = _estimate(
            [(stratum, chance.choices(stratum.values, k=len(stratum.values))) for stratum in strata]
        )
        # All values alike by chance: says nothing about the spread.
        if error > 0.0:
            ratios.append((again - total) / error)
    return sorted(ratios) or [0.0]


def _quantile(in_order: Sequence[float], share: float) -> float:
    place = math.ceil(share * (len(in_order) + 1)) - 1
    return in_order[min(max(place, 0), len(in_order) - 1)]
