"""Files of facts: found, read, and refused with the place and the nearest name."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkrate.core.outcome import ErrorClass
from bulkrate.core.request import Choice, FreeText, JsonSchema, Message, Request
from bulkrate.errors import ConfigError, JobError
from bulkrate.providers.compatible.facts import read_facts_file
from bulkrate.providers.provider import Slice, Tag
from bulkrate.providers.registry import get_provider, provider_names

ACME = """\
dated = 2026-11-24
source = "made up"
run_live = "never"

[server]
base_url = "https://api.acme.test"
keys = ["ACME_API_KEY"]
"""
SHIPPED = sorted(
    {"groq", "together", "doubleword", "deepinfra", "parasail", "perplexity", "qwen", "openrouter", "x-ai"}
    | {"fireworks", "vllm", "sglang", "llama-cpp", "ollama", "bulkrate-server"}
)


def facts(folder: Path, text: str, name: str = "acme") -> dict[str, str]:
    """The environment in which the file counts."""
    (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return {"BULKRATE_PROVIDERS": str(folder)}


@pytest.mark.parametrize("name", SHIPPED)
def test_what_comes_along_is_read_and_nobody_has_run_it_live(name: str) -> None:
    assert name in provider_names({})
    provider = get_provider(name, {})
    traits = provider.traits("")
    assert traits.run_live is None or name == "bulkrate-server"
    assert traits.dated
    assert traits.source
    assert provider.limits("", {}).requests <= 50_000
    assert provider.wire("some-model").endpoint.endswith("/chat/completions")


def test_a_small_file_makes_a_provider(tmp_path: Path) -> None:
    env = facts(tmp_path, ACME)
    assert "acme" in provider_names(env)
    assert "acme" not in provider_names({})
    acme = get_provider("acme", env)
    assert acme.name == "acme"
    assert acme.traits("").keys == ("ACME_API_KEY",)
    assert acme.limits("", {"BULKRATE_LIMITS__REQUESTS": "7"}).requests == 7


def test_the_folder_of_the_users_configuration_is_looked_into(tmp_path: Path) -> None:
    (tmp_path / "bulkrate" / "providers").mkdir(parents=True)
    facts(tmp_path / "bulkrate" / "providers", ACME)
    assert get_provider("acme", {"XDG_CONFIG_HOME": str(tmp_path)}).name == "acme"
    home = tmp_path / "home"
    (home / ".config").mkdir(parents=True)
    (home / ".config" / "bulkrate").symlink_to(tmp_path / "bulkrate")
    assert "acme" in provider_names({"HOME": str(home)})


def test_ones_own_file_comes_before_the_one_that_comes_along(tmp_path: Path) -> None:
    env = facts(tmp_path, ACME + "[limits]\nrequests = 9\n", name="groq")
    assert get_provider("groq", env).limits("", {}).requests == 9


def test_an_installed_provider_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="openai is installed already"):
        get_provider("openai", facts(tmp_path, ACME, name="openai"))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a folder"):
        provider_names({"BULKRATE_PROVIDERS": str(tmp_path / "nowhere")})


@pytest.mark.parametrize(
    ("text", "line", "said", "hint"),
    [
        (ACME + "[limits]\nreqests = 9\n", 9, "reqests is not known", "did you mean requests?"),
        (ACME + "[limit]\nrequests = 9\n", None, "limit is not known", "did you mean limits?"),
        (ACME + "[limits]\nrequests = 0\n", 9, "0 bounds nothing", None),
        (ACME + "[limits]\nrequests = '9'\n", 9, "expected a whole number, got a text", None),
        (ACME + "[traits]\nlanes = ['bacth']\n", 9, "invalid enum value 'bacth'", None),
        (ACME + "[traits]\ndiscount = 50\n", 9, "a share: 0.5 is half off", None),
        (ACME + "[requests]\nid_length = 16\n", 9, "our ids have 20 characters", None),
        (ACME + "[requests]\nchoice = 'json'\n", 9, "invalid enum value 'json'", None),
        (ACME.replace("https://", ""), 6, "is not an HTTP address", None),
        (ACME.replace('keys = ["ACME_API_KEY"]', ""), None, "names no variable", None),
        (ACME.replace('run_live = "never"', 'run_live = "soon"'), 3, 'a date, or "never"', None),
        (ACME.replace('source = "made up"', ""), None, "source is missing", None),
        (ACME.replace("base_url", "base_uri"), 6, "base_uri is not known", "did you mean base_url?"),
        ("dated = ", None, "is not TOML", None),
    ],
)
def test_what_is_wrong_is_said_with_its_place(
    tmp_path: Path, text: str, line: int | None, said: str, hint: str | None
) -> None:
    with pytest.raises(ConfigError, match=said.replace("'", ".")) as caught:
        get_provider("acme", facts(tmp_path, text))
    place = str(tmp_path / "acme.toml") + ("" if line is None else f":{line}")
    assert caught.value.message.startswith(place)
    if hint is not None:
        assert caught.value.hint == hint


def test_a_file_of_no_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lower-case letters"):
        provider_names(facts(tmp_path, ACME, name="Acme Inc"))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "acme.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="is not TOML"):
        read_facts_file(tmp_path / "acme.toml")


# -- what the facts do to the wire ---------------------------------------------------------------------------

CHAT = Request("m", (Message("user", "hi"),), max_output_tokens=9)
TAG = Tag("a" * 10, 3, "0" * 32)


def test_lines_without_method_and_url() -> None:
    wire = get_provider("together", {}).wire("m")
    assert b"".join(wire.envelope(TAG)) == b'{"custom_id":"","body":}\n'
    assert wire.body(CHAT)["max_tokens"] == 9


def test_groq_lines_leave_out_a_part_of_the_address() -> None:
    assert b'"url":"/v1/chat/completions"' in get_provider("groq", {}).wire("m").envelope(TAG)[1]


@pytest.mark.parametrize("output", [Choice(("a", "b")), JsonSchema({"type": "object"})])
def test_a_server_that_cannot_be_held_to_a_form_says_so(tmp_path: Path, output: object) -> None:
    wire = get_provider("acme", facts(tmp_path, ACME + "[requests]\nchoice = 'none'\n")).wire("m")
    request = Request("m", (Message("user", "hi"),), output=output)
    assert set(wire.body(request)) == {"model", "messages"}
    assert wire.dropped(request)[0].startswith("output (")
    assert wire.dropped(CHAT) == ()


def test_no_embeddings_where_there_are_none() -> None:
    with pytest.raises(JobError, match="groq has no embeddings"):
        get_provider("groq", {}).wire("m", "embed")


def test_error_codes_of_the_servers_own() -> None:
    line = b'{"custom_id":"x","error":{"message":"no such model","code":"invalid_model"}}'
    decoded = get_provider("together", {}).wire("m").decode(line, FreeText())
    assert decoded is not None
    assert decoded.outcome.error is ErrorClass.BAD_REQUEST


@pytest.mark.parametrize("tag", [TAG, Tag("z" * 10, 70_000, "f" * 32, Slice(2, 500, 1_000))])
def test_a_tag_survives_as_a_name(tag: Tag) -> None:
    assert Tag.from_file_name(tag.file_name()) == tag


@pytest.mark.parametrize("name", ["", None, 7, "data.jsonl", f"{'a' * 10}-00001-{'0' * 32}-1.2.jsonl"])
def test_other_names_are_no_tags(name: object) -> None:
    assert Tag.from_file_name(name) is None
