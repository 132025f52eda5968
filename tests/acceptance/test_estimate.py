"""`bulkrate estimate`, for the person deciding whether to bother."""

from __future__ import annotations

from decimal import Decimal

from command_line import CommandLine

LOAD = ("--rows", "1_000_000", "--input", "350", "--output", "8")


def test_models_side_by_side(bulkrate: CommandLine) -> None:
    models = ("-m", "openai/gpt-5-mini", "-m", "groq/llama-3.3-70b-versatile")
    done = bulkrate("estimate", *models, *LOAD, "--every", "week", "--growth", "5%")
    assert done.code == 0, done.err
    header, first, second = done.out.splitlines()
    columns = "MODEL LIVE FLEX BATCH BATCH SAVES 12 MONTHS LIVE 12 MONTHS BATCH PRICES OF"
    assert " ".join(header.split()) == columns
    priced = "openai/gpt-5-mini 103.50 USD 51.75 USD 51.75 USD 50 %"
    assert " ".join(first.split()).startswith(priced)
    assert "(genai-prices " in first
    assert "  -  " in second
    assert " USD (live)  0 %" in second
    assert done.err == (
        "note: groq/llama-3.3-70b-versatile: no published batch rate: the live price stands in\n"
    )


def test_one_document(bulkrate: CommandLine) -> None:
    (bulkrate.folder / "prices.toml").write_text(
        '[[engine]]\nmodel = "openai/our-llama"\nfrom = 2026-01-01\nsource = "bench"\n'
        "per_hour = 4\nrows_per_hour = 100_000\n"
    )
    done = bulkrate("estimate", "-m", "openai/our-llama", *LOAD, "--cached", "80%", "--json")
    assert done.code == 0, done.err
    document = done.json()
    (model,) = document["models"]
    assert document["cached"] == "0.8"
    assert Decimal(model["lanes"]["batch"]["cost"]) == 40
    assert model["lanes"]["batch"] == {
        "cost": model["lanes"]["live"]["cost"],
        "year": None,
        "saving": model["lanes"]["live"]["saving"],
        "published": True,
        "prices_dated": "2026-01-01",
        "prices_source": "bench",
    }
    assert not (bulkrate.folder / ".bulkrate").exists(), "an estimate leaves nothing behind"


def test_a_model_without_a_price_is_an_error_that_helps(bulkrate: CommandLine) -> None:
    done = bulkrate("estimate", "-m", "openai/gpt-5-minni", *LOAD, "--json")
    assert done.code == 2
    assert done.json()["error"]["code"] == "price_unknown"
    assert "openai/gpt-5-mini" in done.json()["error"]["hint"]
    unsure = bulkrate("estimate", "-m", "gpt-5-mini", *LOAD)
    assert (unsure.code, unsure.err.splitlines()[1]) == (
        2,
        "hint: write it as provider/name: openai/gpt-5-mini",
    )
    odd = bulkrate("estimate", "-m", "openai/gpt-5-mini", *LOAD, "--growth", "5%")
    assert odd.code == 2
    assert "--growth needs --every" in odd.err
    for option, value in (("--rows", "9" * 30), ("--input", "9" * 12), ("--growth", "1e999999")):
        beyond = bulkrate("estimate", "-m", "openai/gpt-5-mini", *LOAD, "--every", "day", option, value)
        assert (beyond.code, option in beyond.err) == (2, True), beyond.err
