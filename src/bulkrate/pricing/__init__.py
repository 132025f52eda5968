"""What work costs: dated rates, the quote before, the bill after. Money is `Decimal`, prices have dates."""

from __future__ import annotations

from bulkrate.pricing.bills import Bill, BillLine, bill
from bulkrate.pricing.money import format_money, parse_money
from bulkrate.pricing.price_list import PUBLISHED, PriceList, rate
from bulkrate.pricing.quote import Quote, TooFew, check_max_cost, make_quote
from bulkrate.pricing.rates import Rate, Step, price

__all__ = [
    "PUBLISHED",
    "Bill",
    "BillLine",
    "PriceList",
    "Quote",
    "Rate",
    "Step",
    "TooFew",
    "bill",
    "check_max_cost",
    "format_money",
    "make_quote",
    "parse_money",
    "price",
    "rate",
]
