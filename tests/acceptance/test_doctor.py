"""`providers`, `models` and `doctor`: what is here, what is wrong, what to do."""

from __future__ import annotations

from collections.abc import Callable

from command_line import CommandLine

WithProvider = Callable[..., CommandLine]


def test_providers_are_listed_with_their_keys_and_dates(with_provider: WithProvider) -> None:
    bulkrate = with_provider()
    found = {item["provider"]: item for item in bulkrate("providers", "--json").json()["providers"]}
    assert found["openai"]["key_found"] == "OPENAI_API_KEY"
    assert found["openai"]["requests"] == 50_000
    assert found["openai"]["run_live"] is None
    assert found["local"]["keys"] == []
    assert all(item["dated"] and item["source"] for item in found.values())
    assert "never" in bulkrate("providers").out


def test_local_models_are_listed(bulkrate: CommandLine) -> None:
    models = {item["model"]: item for item in bulkrate("models", "--json").json()["models"]}
    assert models["local/smollm2-135m-instruct"]["installed"] is True
    assert "local/echo" in bulkrate("models").out


def test_doctor_finds_a_good_key_and_a_wrong_one(with_provider: WithProvider) -> None:
    bulkrate = with_provider()
    well = bulkrate("doctor", "openai", "--json")
    assert well.code == 0, well.out
    bulkrate.env["OPENAI_API_KEY"] = "sk-wrong"
    ill = bulkrate("doctor", "openai")
    assert ill.code == 1
    assert "WRONG  openai: list: the provider answered 401" in ill.out
    assert "check the API key" in ill.out
    assert "sk-wrong" not in ill.out + ill.err


def test_doctor_says_which_key_is_not_set(with_provider: WithProvider) -> None:
    bulkrate = with_provider()
    bulkrate.env["OPENAI_API_KEY"] = ""
    ill = bulkrate("doctor", "openai")
    assert ill.code == 1
    assert "OPENAI_API_KEY is not set" in ill.out


def test_doctor_sends_one_row_there_and_back(with_provider: WithProvider) -> None:
    bulkrate = with_provider()
    refused = bulkrate("doctor", "openai", "--batch", "openai/gpt-3.5-turbo")
    assert refused.code == 4, "it costs money: nobody said yes"
    done = bulkrate("doctor", "openai", "--batch", "openai/gpt-3.5-turbo", "--yes")
    assert done.code == 0, done.err
    assert "1: 1 succeeded" in done.err
