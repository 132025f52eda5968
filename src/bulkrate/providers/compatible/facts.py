"""A server as a file of facts: `NAME.toml` makes the provider NAME.

docs/reference/facts-file.md explains every key. A key that is not known is an error with the nearest name:
a misspelt limit that is silently ignored costs money.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal, get_type_hints

import msgspec

from bulkrate.core.identity import CUSTOM_ID_LENGTH
from bulkrate.core.limits import Limits
from bulkrate.core.outcome import ErrorClass
from bulkrate.errors import ConfigError
from bulkrate.providers.facts import MAY_BE_ZERO
from bulkrate.providers.openai.results import CostField

NEVER = "never"


@dataclass(frozen=True, slots=True)
class Server:
    """Where the API is, and what opens it."""

    base_url: str
    api_path: str = "/v1"
    base_url_variable: str | None = None  # default: <NAME>_BASE_URL
    keys: tuple[str, ...] = ()
    key_required: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)
    busy_status: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The endpoint of each kind of request, as lines and create calls name it; None: there is none."""

    chat: str | None = "/v1/chat/completions"
    embed: str | None = None


@dataclass(frozen=True, slots=True)
class Requests:
    """How a request is written, and what error codes of its own the server has."""

    choice: Literal["json_schema", "structured_outputs", "none"] = "json_schema"
    cap_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    bare_lines: bool = False
    id_length: int = 64
    error_codes: Mapping[str, ErrorClass] = field(default_factory=dict)
    cost_field: CostField = "none"


@dataclass(frozen=True, slots=True)
class Batches:
    """How files and batches differ from OpenAI's."""

    window: str = "24h"
    upload_path: str = "files"
    upload_fields: Mapping[str, str] = field(default_factory=lambda: {"purpose": "batch"})
    name_field: str | None = None
    metadata: bool = True
    repeat_header: str | None = None
    wrapper: str | None = None
    listing: Literal["pages", "array"] = "pages"
    words: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lanes:
    """What the lanes do and do not do, as in `core.limits.Traits`."""

    lanes: tuple[Literal["batch", "flex", "live"], ...] = ("batch", "live")
    windows: tuple[str, ...] = ("24h",)
    discount: float | None = None
    progress: bool = True
    partial_on_cancel: bool = True
    partial_on_expiry: bool = True
    results_can_be_deleted: bool = False
    retention_days: float | None = None


@dataclass(frozen=True, slots=True)
class Models:
    """By the beginning of a model's name: its context window, and whether it reasons."""

    context_window: Mapping[str, int] = field(default_factory=dict)
    reasoning: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FactsFile:
    """The whole file. `run_live` is the day somebody ran it against the real service, or `NEVER`."""

    dated: date
    source: str
    run_live: str
    server: Server
    endpoints: Endpoints = Endpoints()
    requests: Requests = Requests()
    batches: Batches = Batches()
    traits: Lanes = Lanes()
    limits: Limits = field(default_factory=Limits)
    models: Models = Models()
    notes: tuple[str, ...] = ()


def read_facts_file(path: Path) -> FactsFile:
    """The facts in `path`. Raises `ConfigError` naming the file, the place and the nearest known key."""
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}", code="facts_file") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}", code="facts_file") from None
    for where, message, hint in _unknown(table, FactsFile, ()):
        raise ConfigError(f"{_place(path, text, where)}: {message}", code="facts_file", hint=hint)
    if isinstance(table["run_live"], date):
        table["run_live"] = table["run_live"].isoformat()
    try:
        facts = msgspec.convert(table, FactsFile)
    except msgspec.ValidationError as error:
        what, _, at = str(error).partition(" - at `$.")
        keys = tuple(re.sub(r"\[[^\]]*\]", "", at.rstrip("`")).split(".")) if at else ()
        raise ConfigError(f"{_place(path, text, keys)}: {_plain(what)}", code="facts_file") from None
    for keys, message in _wrong(facts):
        raise ConfigError(f"{_place(path, text, keys)}: {message}", code="facts_file")
    return facts


def _unknown(
    table: Mapping[str, Any], kind: type, where: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Keys that mean nothing, and sections that are missing: place, message, hint."""
    hints = get_type_hints(kind)
    for name, value in table.items():
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(hints)}"
            yield (*where, name), f"{name} is not known here", hint
        elif is_dataclass(hints[name]) and isinstance(value, Mapping):
            yield from _unknown(value, hints[name], (*where, name))
    for item in fields(kind):
        if item.default is MISSING and item.default_factory is MISSING and item.name not in table:
            section = f"[{'.'.join(where)}] " if where else ""
            yield where, f"{section}{item.name} is missing", "see docs/reference/facts-file.md"


def _wrong(facts: FactsFile) -> Iterator[tuple[tuple[str, ...], str]]:
    """What has the right type and cannot be."""
    if facts.run_live != NEVER and not re.fullmatch(r"\d{4}-\d\d-\d\d", facts.run_live):
        yield ("run_live",), 'must be a date, or "never"'
    url, path = facts.server.base_url, facts.server.api_path
    if not re.fullmatch(r"https?://[^\s/]+(/\S*)?", url):
        yield ("server", "base_url"), f"{url!r} is not an HTTP address"
    if path and not re.fullmatch(r"(/[^\s/]+)+", path):
        yield ("server", "api_path"), f'{path!r} must be "" or begin with a slash and not end in one'
    if facts.server.key_required and not facts.server.keys:
        yield ("server", "keys"), "keys names no variable; key_required = false says that none is needed"
    if facts.requests.id_length < CUSTOM_ID_LENGTH:
        yield ("requests", "id_length"), f"our ids have {CUSTOM_ID_LENGTH} characters"
    if facts.endpoints.chat is None and facts.endpoints.embed is None:
        yield ("endpoints",), "a server without any endpoint answers nothing"
    if not facts.traits.lanes:
        yield ("traits", "lanes"), "is empty"
    if facts.traits.discount is not None and not 0 <= facts.traits.discount < 1:
        yield ("traits", "discount"), "must be a share: 0.5 is half off"
    for item in fields(Limits):
        value = getattr(facts.limits, item.name)
        if value is not None and (value < 0 or (value == 0 and item.name not in MAY_BE_ZERO)):
            yield ("limits", item.name), f"{value} bounds nothing: it must be above zero"


def _place(path: Path, text: str, keys: tuple[str, ...]) -> str:
    """`file:line` of a key, as well as a look at the text can tell."""
    if not keys:
        return str(path)
    section, number, last = "", 0, 0
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[+([^\]]+)\]", line)
        if header is not None:
            section = re.sub(r"[\s\"']", "", header[1])
        name = re.match(r"\s*[\"']?([\w.-]+)[\"']?\s*=", line)
        at = ".".join(part for part in (section, name[1] if name is not None else "") if part)
        if at == ".".join(keys):
            return f"{path}:{number}"
        if at and ".".join(keys).startswith(f"{at}."):
            last = number
    return f"{path}:{last}" if last else str(path)


def _plain(message: str) -> str:
    """msgspec's message in the words of a TOML file."""
    words = {"`str`": "a text", "`int`": "a whole number", "`float`": "a number", "`array`": "a list"}
    words |= {"`object`": "a table", "`bool`": "true or false", "`date`": "a date", "`null`": "nothing"}
    for theirs, ours in words.items():
        message = message.replace(theirs, ours)
    return message[:1].lower() + message[1:]
