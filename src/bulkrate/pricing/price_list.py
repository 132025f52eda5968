"""The price list: published rates, and over them what the user's own price file says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

from bulkrate.pricing.price_file import Entry, PriceFile
from bulkrate.pricing.published import listed_as, published_rate
from bulkrate.pricing.rates import Rate

EMPTY = PriceFile()


@dataclass(frozen=True, slots=True)
class PriceList:
    """Where rates are asked for.

    The nearest word wins: an entry of the file for the model, then the published rate, then an entry of the
    file for all models of the provider, then the live rate, flagged.
    """

    own: PriceFile = EMPTY

    def rate(self, provider: str, model: str, lane: str, at: datetime) -> Rate | None:
        """The rate in force at that time, or None when no price per token is known.

        Where the lane has no price of its own the live rate is returned, marked `published=False`. A naive
        time is UTC.
        """
        day = at.astimezone(UTC).date() if at.tzinfo is not None else at.date()
        entry = self._entry(provider, model, lane, day)
        if entry is not None:
            return self._rate_of(entry, provider, model, lane, at)
        listed = published_rate(provider, model, lane, at)
        if lane == "live" or (listed is not None and listed.published):
            return listed
        entry = self._latest(f"{provider}/*", lane, day)
        if entry is not None:
            return self._rate_of(entry, provider, model, lane, at)
        live = self.rate(provider, model, "live", at)
        return None if live is None else replace(live, lane=lane, published=False)

    def _entry(self, provider: str, model: str, lane: str, day: date) -> Entry | None:
        """What the file says about the model, by this name or by its plain one."""
        if not self.own.named:
            return None
        found = self._latest(f"{provider}/{model}", lane, day)
        if found is None and (plain := listed_as(provider, model)) is not None:
            found = self._latest(f"{provider}/{plain}", lane, day)
        return found

    def _latest(self, name: str, lane: str, day: date) -> Entry | None:
        entries = [
            entry
            for entry in self.own.entries
            if entry.model == name and entry.from_ <= day and entry.says(lane)
        ]
        return max(entries, key=lambda entry: entry.from_, default=None)

    def _rate_of(self, entry: Entry, provider: str, model: str, lane: str, at: datetime) -> Rate | None:
        stated = entry.rate(provider, model, lane)
        if stated is not None:
            return stated
        live = self.rate(provider, model, "live", at)
        if live is None:
            return None
        return replace(
            live.times(1 - entry.discount(lane)),
            lane=lane,
            dated=entry.from_,
            source=f"{entry.source}, off {live.source}",
            published=True,
        )


PUBLISHED = PriceList()


def rate(provider: str, model: str, lane: str, at: datetime) -> Rate | None:
    """The published rate: that of a price list with no file over it."""
    return PUBLISHED.rate(provider, model, lane, at)
