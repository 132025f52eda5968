"""`prices.toml`: prices that a user knows better than the published ones. `price_list` lays them over."""

from __future__ import annotations

import tomllib
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from bulkrate.errors import ConfigError
from bulkrate.pricing.money import CURRENCY
from bulkrate.pricing.rates import LANES, Kinds, Rate, Step

_HOUR_S = 3600
_MILLION = 1_000_000
_THOUSAND = 1_000

Amount = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[Decimal, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[Decimal, Field(gt=0, le=1)]
Discount = Annotated[Decimal, Field(ge=0, le=1)]
ModelName = Annotated[str, Field(pattern=r"^[^/\s]+/\S+$", description="provider/model")]
# pydantic would read a number as the seconds since 1970.
Day = Annotated[date, Field(strict=True)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TokenPrices(_Table):
    """USD per million tokens of each kind. What is left out is billed as the kind it is a part of."""

    input: Amount
    cached: Amount | None = None
    cache_write: Amount | None = None
    output: Amount = Decimal(0)
    reasoning: Amount | None = None

    def kinds(self) -> Kinds:
        """As the fields of a `Rate` or `Step`."""
        return {
            "input_mtok": self.input,
            "cached_mtok": self.cached,
            "cache_write_mtok": self.cache_write,
            "output_mtok": self.output,
            "reasoning_mtok": self.reasoning,
        }


class StepPrices(TokenPrices):
    """The prices of a request whose input is longer than that."""

    over_tokens: int = Field(gt=0)


class LanePrices(TokenPrices):
    """A lane's prices. `request` is USD per thousand requests."""

    request: Amount | None = None
    steps: tuple[StepPrices, ...] = ()

    @model_validator(mode="after")
    def _one_price_a_step(self) -> Self:
        begins = [step.over_tokens for step in self.steps]
        if len(set(begins)) < len(begins):
            raise ValueError("two steps begin at the same length")
        return self


class Price(_Table):
    """A model's prices from a day on, lane by lane; or what is off its live price, or off a provider's.

    A lane that an entry does not mention stays as it was.
    """

    model: ModelName
    from_: Day = Field(alias="from")
    source: str = Field(min_length=1)
    live: LanePrices | None = None
    batch: LanePrices | None = None
    flex: LanePrices | None = None
    batch_discount: Discount | None = None
    flex_discount: Discount | None = None

    @field_validator("batch_discount", "flex_discount", mode="before")
    @classmethod
    def _percent(cls, value: Any) -> Any:
        if isinstance(value, str) and value.endswith("%"):
            try:
                return Decimal(value[:-1].strip()) / 100
            except InvalidOperation:
                raise ValueError('must be a share such as 0.5 or "50%"') from None
        return value

    @model_validator(mode="after")
    def _says_something_once(self) -> Self:
        for lane in ("batch", "flex"):
            if self.prices(lane) is not None and getattr(self, f"{lane}_discount") is not None:
                raise ValueError(f"give {lane} prices or {lane}_discount, not both")
        named = [lane for lane in ("live", "batch", "flex") if self.prices(lane) is not None]
        if not named and self.batch_discount is None and self.flex_discount is None:
            raise ValueError("says nothing: give live, batch or flex prices, or a discount")
        if self.every_model and named:
            raise ValueError(f"prices need one model's name; for {self.model} give a discount")
        return self

    @property
    def every_model(self) -> bool:
        """Whether the entry is about all models of a provider."""
        return self.model.endswith("/*")

    def prices(self, lane: str) -> LanePrices | None:
        """The lane's own prices, if the entry has any."""
        found: LanePrices | None = getattr(self, lane)
        return found

    def discount(self, lane: str) -> Decimal:
        """What the entry takes off the live price on that lane: 0.5 is half."""
        return {"batch": self.batch_discount, "flex": self.flex_discount}.get(lane) or Decimal(0)

    def says(self, lane: str) -> bool:
        """Whether the entry sets that lane's price, by prices or by a discount."""
        return self.prices(lane) is not None or getattr(self, f"{lane}_discount", None) is not None

    def rate(self, provider: str, model: str, lane: str) -> Rate | None:
        """The lane's rate as the entry states it; None where it states none."""
        prices = self.prices(lane)
        if prices is None:
            return None
        steps = sorted(prices.steps, key=lambda step: step.over_tokens)
        return Rate(
            provider=provider,
            model=model,
            lane=lane,
            **prices.kinds(),
            currency=CURRENCY,
            dated=self.from_,
            source=self.source,
            published=True,
            request_k=prices.request,
            steps=tuple(Step(over_tokens=step.over_tokens, **step.kinds()) for step in steps),
            priced_as=f"{provider}/{model}",
        )


class Engine(_Table):
    """A machine of one's own: dollars an hour over what it was measured to do in that hour.

    Two throughputs, one for reading the prompt and one for writing the answer, are taken to be used one after
    the other; with `rows_per_hour` the tokens of a row do not matter. `utilisation` is the share of the paid
    hours in which it works: at 0.5 everything costs twice as much.
    """

    model: ModelName
    from_: Day = Field(alias="from")
    source: str = Field(min_length=1)
    per_hour: Amount
    input_tokens_per_s: Positive | None = None
    output_tokens_per_s: Positive | None = None
    rows_per_hour: Positive | None = None
    utilisation: Share = Decimal(1)

    @model_validator(mode="after")
    def _measured(self) -> Self:
        if self.model.endswith("/*"):
            raise ValueError("an engine was measured with one model: name it")
        by_tokens = (self.input_tokens_per_s, self.output_tokens_per_s)
        if (self.rows_per_hour is None) == (by_tokens == (None, None)) or by_tokens.count(None) == 1:
            raise ValueError("give rows_per_hour, or both input_tokens_per_s and output_tokens_per_s")
        return self

    def says(self, lane: str) -> bool:
        """Whether the entry sets that lane's price: every lane's, the machine does not care."""
        return True

    def discount(self, lane: str) -> Decimal:
        """Nothing is off."""
        return Decimal(0)

    def rate(self, provider: str, model: str, lane: str) -> Rate:
        """What the tokens cost there."""
        hour = self.per_hour / self.utilisation

        def per_million(tokens_per_s: Decimal | None) -> Decimal:
            return Decimal(0) if tokens_per_s is None else hour * _MILLION / (tokens_per_s * _HOUR_S)

        return Rate(
            provider=provider,
            model=model,
            lane=lane,
            input_mtok=per_million(self.input_tokens_per_s),
            cached_mtok=None,
            cache_write_mtok=None,
            output_mtok=per_million(self.output_tokens_per_s),
            currency=CURRENCY,
            dated=self.from_,
            source=self.source,
            published=True,
            request_k=None if self.rows_per_hour is None else hour * _THOUSAND / self.rows_per_hour,
            priced_as=f"{provider}/{model}",
        )


Entry = Price | Engine


class PriceFile(_Table):
    """A whole `prices.toml`."""

    price: tuple[Price, ...] = ()
    engine: tuple[Engine, ...] = ()

    @model_validator(mode="after")
    def _one_word_a_day(self) -> Self:
        said: set[tuple[str, date, str]] = set()
        for entry in self.entries:
            for lane in (lane for lane in LANES if entry.says(lane)):
                if (entry.model, entry.from_, lane) in said:
                    said_twice = f"the {lane} price of {entry.model} from {entry.from_}"
                    raise ValueError(f"two entries say {said_twice}: which one counts?")
                said.add((entry.model, entry.from_, lane))
        return self

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Everything it says."""
        return (*self.price, *self.engine)

    @property
    def named(self) -> bool:
        """Whether it says anything about a single model."""
        return bool(self.engine) or any(not entry.every_model for entry in self.price)


def read_price_file(path: Path) -> PriceFile:
    """Read a `prices.toml`. Raises ConfigError with every mistake in it."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
        return PriceFile.model_validate(document)
    except OSError as error:
        raise _wrong(path, [f"cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise _wrong(path, ["is not UTF-8"]) from None
    except tomllib.TOMLDecodeError as error:
        raise _wrong(path, [f"is no TOML: {error}"]) from None
    except ValidationError as error:
        raise _wrong(path, [_sentence(document, each) for each in error.errors()]) from None


def _sentence(document: dict[str, Any], error: Any) -> str:
    where = [str(part + 1) if isinstance(part, int) else part for part in error["loc"]]
    name = " ".join(where[:2])
    table = document
    for part in error["loc"][:2]:
        table = table[part] if isinstance(table, (dict, list)) and len(table) else {}
    if isinstance(table, dict) and isinstance(table.get("model"), str):
        name += f" ({table['model']})"
    field = ".".join(where[2:])
    message = str(error["msg"]).removeprefix("Value error, ")
    return ": ".join(part for part in (name, field, message) if part)


def _wrong(path: Path, mistakes: list[str]) -> ConfigError:
    if len(mistakes) == 1:
        said = f"the price file {path}: {mistakes[0]}"
    else:
        said = "\n".join([f"the price file {path}:", *(f"  {mistake}" for mistake in mistakes)])
    return ConfigError(said, code="prices", hint="docs/reference/prices.md shows what it may hold")
