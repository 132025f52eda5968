"""Which price file counts: `prices.toml`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bulkrate.ledger.home import Home
from bulkrate.pricing import PUBLISHED, PriceList
from bulkrate.pricing.price_file import read_price_file

VARIABLE = "BULKRATE_PRICES"


def find_prices(home: Home, env: Mapping[str, str]) -> PriceList:
    """The published prices, and over them the first file there is: the one BULKRATE_PRICES names, that of the
    state directory, that of the folder the state directory lies in.

    Raises ConfigError for a file that is wrong, or named and not there.
    """
    if chosen := env.get(VARIABLE):
        return PriceList(read_price_file(Path(chosen).expanduser()))
    for path in (home.prices_path, home.root.parent / home.prices_path.name):
        if path.is_file():
            return PriceList(read_price_file(path))
    return PUBLISHED
