"""Published prices against the raw price data, and a user's own prices over them."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from genai_prices.data import providers
from genai_prices.types import ModelInfo, ModelPrice, TieredPrices

from bulkrate.core.usage import Usage
from bulkrate.errors import ConfigError
from bulkrate.pricing import PUBLISHED, PriceList, Rate, bill, make_quote, price
from bulkrate.pricing.price_file import read_price_file

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)

# Which key of the raw data prices a token of which kind, and what stands in for it.
RAW_KEYS = {
    "input": ("input_mtok",),
    "cached": ("cache_read_mtok", "input_mtok"),
    "written": ("cache_write_mtok", "input_mtok"),
    "output": ("output_mtok",),
    "reasoning": ("output_reasoning_mtok", "output_mtok"),
}
VARIANTS = {"batch": {"processing": "batch"}, "flex": {"service_tier": "flex"}, "live": None}


def _raw_prices(model: ModelInfo, lane: str) -> tuple[dict[str, object], bool]:
    """The prices in force, straight from the data, and whether the lane has its own."""
    if isinstance(model.prices, ModelPrice):
        standard = model.prices
    else:
        in_force = [p for p in model.prices if p.constraint is None or p.constraint.active(NOW)]
        standard = in_force[-1].prices if in_force else model.prices[0].prices
    found = {key: value for key, value in vars(standard).items() if value is not None}
    own: dict[str, object] = {}
    published = lane == "live"
    for variant in model.price_variants or ():
        if variant.when == VARIANTS[lane] and (variant.constraint is None or variant.constraint.active(NOW)):
            published = True  # a variant may change nothing: published, and no cheaper
            for key, value in vars(variant.prices).items():
                if value is not None:
                    own.setdefault(key, value)
    return found | own, published


def _by_hand(prices: dict[str, object], tokens: dict[str, int]) -> Decimal:
    length = tokens["input"] + tokens["cached"] + tokens["written"]
    total = Decimal(0)
    for kind, count in tokens.items():
        key = next((key for key in RAW_KEYS[kind] if key in prices), None)
        value = prices.get(key) if key else None
        if isinstance(value, TieredPrices):
            over = [tier.price for tier in value.tiers if length > tier.start]
            value = over[-1] if over else value.base
        if value is not None:
            assert isinstance(value, Decimal)
            total += value * count
    total /= 1_000_000
    if isinstance(requests := prices.get("requests_kcount"), Decimal):
        total += requests / 1000
    return total


def _sampled() -> list[tuple[str, ModelInfo]]:
    """Fifty models: half of any kind, half of those with a batch price, where there is more to get wrong."""
    every = [
        (provider.id, model)
        for provider in providers
        for model in provider.models
        if _raw_prices(model, "live")[0].get("input_mtok") is not None
        # A name that another entry of the provider claims first is that entry's.
        and provider.find_model(model.id) is model
    ]
    chance = random.Random(20261124)
    batched = [each for each in every if _raw_prices(each[1], "batch")[1]]
    return chance.sample(every, 25) + chance.sample(batched, 25)


@pytest.mark.parametrize("lane", ["batch", "flex", "live"])
def test_fifty_random_models_cost_what_the_raw_data_says(lane: str) -> None:
    chance = random.Random(lane)
    own_price = 0
    for provider, model in _sampled():
        raw, published = _raw_prices(model, lane)
        ours = PUBLISHED.rate(provider, model.id, lane, NOW)
        assert ours is not None
        assert ours.published == published, (provider, model.id)
        own_price += published
        for longest in (2_000, 150_000, 450_000):  # below, around and over the steps there are
            tokens = {kind: chance.randrange(longest) for kind in RAW_KEYS}
            usage = Usage(
                input_tokens=tokens["input"] + tokens["cached"] + tokens["written"],
                output_tokens=tokens["output"] + tokens["reasoning"],
                cached_tokens=tokens["cached"],
                cache_write_tokens=tokens["written"],
                reasoning_tokens=tokens["reasoning"],
            )
            assert price(ours, usage) == _by_hand(raw, tokens), (provider, model.id, tokens)
    assert own_price >= {"batch": 25, "flex": 1, "live": 50}[lane]


def test_a_flex_price_is_its_own_where_there_is_one() -> None:
    batch, flex = _rate(PUBLISHED, "openai/o3", "batch"), _rate(PUBLISHED, "openai/o3", "flex")
    assert (batch.cached_mtok, flex.cached_mtok) == (Decimal("0.5"), Decimal("0.25"))
    assert batch.input_mtok == flex.input_mtok == 1


def test_without_a_flex_price_the_live_one_stands_in_and_is_flagged() -> None:
    flex, live = (
        _rate(PUBLISHED, "openai/gpt-4o-mini", "flex"),
        _rate(PUBLISHED, "openai/gpt-4o-mini", "live"),
    )
    assert not flex.published
    assert flex.input_mtok == live.input_mtok
    quote = make_quote(
        provider="openai",
        model="gpt-4o-mini",
        rows=1,
        input_tokens=1000,
        input_method="exact",
        input_source="o200k_base",
        max_output_tokens=10,
        at=NOW,
        lane="flex",
    )
    assert quote.cost_max == quote.live_max == quote.flex_max
    assert "no published flex rate: the live price stands in" in quote.notes


def test_each_lane_is_billed_at_its_own_rate() -> None:
    usage = Usage(1_000_000, 0, cached_tokens=1_000_000)
    found = bill([("openai/o3", usage, 1000, lane) for lane in ("batch", "flex", "live")], NOW)
    assert found.cost == Decimal("0.5") + Decimal("0.25") + Decimal("0.5")


OWN = """
[[price]]
model = "openai/gpt-5-mini"
from = 2026-10-01
source = "contract 4711"
live.input = 0.20
live.cached = 0.02
live.output = 1.60
live.steps = [{ over_tokens = 1000, input = 0.4, output = 2 }]

[[price]]
model = "openai/gpt-5-mini"
from = 2026-12-01
source = "contract 4712"
live = { input = 0.10, output = 0.80 }
batch_discount = "60%"

[[price]]
model = "together/*"
from = 2026-11-01
source = "mail of 2026-10-30"
batch_discount = 0.5

[[price]]
model = "house/tiny"
from = 2026-11-01
source = "internal price sheet"
live = { input = 0.01, output = 0.05 }

[[engine]]
model = "house/large"
from = 2026-11-01
source = "bench of 2026-11-02 on one L4"
per_hour = 0.72
input_tokens_per_s = 4000
output_tokens_per_s = 400
utilisation = 0.5

[[engine]]
model = "local/smollm2-135m"
from = 2026-11-01
source = "this laptop"
per_hour = 0.04
rows_per_hour = 80_000
"""


@pytest.fixture
def own(tmp_path: Path) -> PriceList:
    return _list_of(OWN, tmp_path)


def _list_of(text: str, folder: Path) -> PriceList:
    path = folder / "prices.toml"
    path.write_text(text, encoding="utf-8")
    return PriceList(read_price_file(path))


def _rate(prices: PriceList, model: str, lane: str, at: datetime = NOW) -> Rate:
    provider, _, name = model.partition("/")
    found = prices.rate(provider, name, lane, at)
    assert found is not None
    return found


def test_an_entry_counts_from_its_day_and_until_the_next(own: PriceList) -> None:
    def live(*day: int) -> Rate:
        return _rate(own, "openai/gpt-5-mini", "live", datetime(*day, tzinfo=UTC))

    assert live(2026, 9, 30).source.startswith("genai-prices")
    assert live(2026, 10, 1).input_mtok == Decimal("0.20")
    assert (live(2026, 11, 30, 23).source, live(2026, 11, 30, 23).dated) == (
        "contract 4711",
        date(2026, 10, 1),
    )
    assert live(2026, 12, 1).input_mtok == Decimal("0.10")


def test_a_lane_that_no_entry_mentions_keeps_its_published_price(own: PriceList) -> None:
    assert _rate(own, "openai/gpt-5-mini", "batch") == _rate(PUBLISHED, "openai/gpt-5-mini", "batch")


def test_a_discount_takes_its_share_off_every_kind_of_token(own: PriceList) -> None:
    batch = _rate(own, "openai/gpt-5-mini", "batch", datetime(2026, 12, 5, tzinfo=UTC))
    assert (batch.input_mtok, batch.output_mtok) == (Decimal("0.04"), Decimal("0.32"))
    assert batch.published
    assert batch.source == "contract 4712, off contract 4712"


def test_an_entry_counts_for_the_dated_name_an_answer_reports(own: PriceList) -> None:
    assert _rate(own, "openai/gpt-5-mini-2025-08-07", "live").source == "contract 4711"


def test_steps_of_an_entry_hold_for_the_whole_request(own: PriceList) -> None:
    live = _rate(own, "openai/gpt-5-mini", "live")
    assert price(live, Usage(1000, 10)) == (1000 * Decimal("0.2") + 16) / 1_000_000
    assert price(live, Usage(1001, 10)) == (1001 * Decimal("0.4") + 20) / 1_000_000


def test_a_discount_for_a_whole_provider_fills_gaps_only(own: PriceList) -> None:
    model = "together/meta-llama/Llama-3.3-70B-Instruct-Turbo"
    live, batch, flex = (_rate(own, model, lane) for lane in ("live", "batch", "flex"))
    assert live.input_mtok is not None
    assert batch.input_mtok == live.input_mtok / 2
    assert batch.published
    assert not flex.published
    assert flex.input_mtok == live.input_mtok


def test_a_model_of_ones_own_without_a_batch_rate_is_flagged(own: PriceList) -> None:
    batch = _rate(own, "house/tiny", "batch")
    assert (batch.input_mtok, batch.published) == (Decimal("0.01"), False)


def test_an_engine_costs_its_hours(own: PriceList) -> None:
    # 1.44 an hour of use; 4,000 tokens a second are 14.4 million an hour, 400 are 1.44 million.
    large = _rate(own, "house/large", "batch")
    assert (large.input_mtok, large.output_mtok) == (Decimal("0.1"), Decimal(1))
    assert price(large, Usage(14_400_000, 1_440_000)) == Decimal("2.88")  # an hour of reading, one of writing
    assert _rate(own, "house/large", "live").input_mtok == large.input_mtok


def test_this_machine_can_be_given_a_price(own: PriceList) -> None:
    local = _rate(own, "local/smollm2-135m", "batch")
    assert price(local, Usage(5_000_000, 9), requests=160_000) == Decimal("0.08")
    assert local.metered
    quote = make_quote(
        provider="local",
        model="smollm2-135m",
        rows=80_000,
        input_tokens=1,
        input_method="exact",
        input_source="",
        max_output_tokens=5,
        at=NOW,
        prices=own,
    )
    assert (quote.free, quote.batch_max, quote.prices_source) == (False, Decimal("0.04"), "this laptop")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("price = 1", "price: "),
        ("[[price]\n", "is no TOML"),
        ('[[price]]\nmodel = "a/b"\nfrom = 2026-11-01\nsource = "x"\n', r"price 1 \(a/b\): says nothing"),
        (
            '[[price]]\nmodel = "a/b"\nfrom = 2026-11-01\nsource = "x"\nlive = { input = -1 }\n',
            r"price 1 \(a/b\): live\.input: ",
        ),
        (
            '[[price]]\nmodel = "a/*"\nfrom = 2026-11-01\nsource = "x"\nlive = { input = 1 }\n',
            "prices need one model's name",
        ),
        (
            '[[price]]\nmodel = "a/b"\nfrom = 2026-11-01\nsource = "x"\nbatch_discount = "half%"\n',
            r'a share such as 0\.5 or "50%"',
        ),
        (
            '[[price]]\nmodel = "a/b"\nfrom = 2026-11-01\nsource = "x"\nbatch_discount = 50\n',
            "batch_discount: .*less than or equal to 1",
        ),
        ('[[price]]\nmodel = "b"\nfrom = 5\nsource = "x"\nbatch_discount = 0.5\n', r"(?s)model: .*from: "),
        ('[[price]]\nmodle = "a/b"\n', "modle: Extra inputs"),
        (
            '[[engine]]\nmodel = "a/b"\nfrom = 2026-11-01\nsource = ""\nper_hour = 1\nrows_per_hour = 5\n',
            "source: String should have",
        ),
        (
            '[[engine]]\nmodel = "a/b"\nfrom = 2026-11-01\nsource = "x"\nper_hour = 1\n',
            "give rows_per_hour, or both",
        ),
        (
            '[[engine]]\nmodel = "a/*"\nfrom = 2026-11-01\nsource = "x"\nper_hour = 1\nrows_per_hour = 5\n',
            "name it",
        ),
        (
            '[[price]]\nmodel = "a/b"\nfrom = 2026-11-01\nsource = "x"\nlive = { input = 1 }\n'
            '[[engine]]\nmodel = "a/b"\nfrom = 2026-11-01\nsource = "y"\nper_hour = 1\nrows_per_hour = 5\n',
            r"prices\.toml: two entries say the live price of a/b from 2026-11-01: which one counts\?",
        ),
        (
            '[[price]]\nmodel = "a/b"\nfrom = 2026-11-01\nsource = "x"\n'
            "live.input = 1\nlive.steps = [{ over_tokens = 9, input = 2 }, { over_tokens = 9, input = 3 }]\n",
            "live: two steps begin at the same length",
        ),
    ],
)
def test_a_mistake_in_the_file_is_said_where_it_is(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        _list_of(text, tmp_path)
    assert caught.value.code == "prices"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_price_file(tmp_path / "prices.toml")


def test_the_file_in_the_documentation_loads(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "prices.md").read_text(encoding="utf-8")
    shown = _list_of(page.split("```toml\n")[1].split("```")[0], tmp_path)
    assert len(shown.own.entries) == 4
    assert _rate(shown, "openai/gpt-5-mini", "batch").source == "contract 4711"
