"""What a provider answers: a pure function of the request, so that a rerun answers the same.

The default gives a label from the allowed set, a minimal object valid under the schema, or a short text,
each picked by a hash of the request. Token counts are the stated estimate of ``count_tokens``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import orjson

CAPS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")
"""Request fields that bound the answer's length; the first one present counts."""

_NOT_CONTENT: Final = frozenset(CAPS)
_CACHED_PREFIX_TOKENS: Final = 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer: its text, and optionally what it counted (``None``: estimated from the text)."""

    text: str
    finish_reason: str = "stop"
    output_tokens: int | None = None
    cached_tokens: int | None = None


Answerer = Callable[[Mapping[str, Any]], "Answer | str"]
"""Turns a request body into its answer. Must be pure: it may be asked twice for the same row."""

TokenCounter = Callable[[Mapping[str, Any]], int]
"""Turns a request body into its number of prompt tokens."""


def count_tokens(body: Mapping[str, Any]) -> int:
    """Prompt tokens by estimate: the UTF-8 bytes of the prompt's strings, four to a token, rounded up."""
    prompt = body.get("messages", body.get("input", body.get("prompt")))
    return -(-_prompt_bytes(prompt) // 4)


def text_tokens(text: str) -> int:
    """Tokens of an answer's text, by the same estimate; at least one."""
    return max(1, -(-_size_bytes(text) // 4))


def cached_tokens(prompt_tokens: int) -> int:
    """The part of a prompt read from the cache: its first 1,024 tokens, where it is that long."""
    return _CACHED_PREFIX_TOKENS if prompt_tokens >= _CACHED_PREFIX_TOKENS else 0


def output_cap(body: Mapping[str, Any]) -> int | None:
    """The request's bound on output tokens, or ``None``."""
    for name in CAPS:
        value = body.get(name)
        if isinstance(value, int):
            return value
    return None


def content_key(body: Mapping[str, Any]) -> int:
    """A 64-bit hash of what is asked; a larger cap on output asks for the same."""
    asked = {name: value for name, value in body.items() if name not in _NOT_CONTENT}
    digest = blake2b(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS), digest_size=8).digest()
    return int.from_bytes(digest)


def is_structured(body: Mapping[str, Any]) -> bool:
    """Whether the request asks for one of given labels or for JSON."""
    return choices(body) is not None or schema(body) is not None


def choices(body: Mapping[str, Any]) -> list[str] | None:
    """The allowed labels, in vLLM's ``structured_outputs`` or its older ``guided_choice``."""
    outputs = body.get("structured_outputs")
    found = outputs.get("choice") if isinstance(outputs, dict) else body.get("guided_choice")
    return [str(label) for label in found] if isinstance(found, list) and found else None


def schema(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The JSON schema asked for (Chat Completions or Responses form), or ``None``."""
    wanted = body.get("response_format")
    if not isinstance(wanted, dict):
        text = body.get("text")
        wanted = text.get("format") if isinstance(text, dict) else None
    if not isinstance(wanted, dict):
        return None
    if wanted.get("type") == "json_object":
        return {"type": "object", "properties": {"answer": {"type": "string"}}}
    found = wanted.get("json_schema", wanted)
    found = found.get("schema") if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None


def default_answer(body: Mapping[str, Any]) -> Answer:
    """The default answer: by the request's hash, from the labels, under the schema, or a short text."""
    key = content_key(body)
    labels = choices(body)
    if labels is not None:
        return Answer(labels[key % len(labels)])
    wanted = schema(body)
    if wanted is not None:
        return Answer(orjson.dumps(_Example(wanted, key).value(wanted, "$")).decode())
    return Answer(f"answer {key:016x}")


def vector(item: Any, size: int) -> list[float]:
    """A unit vector that depends on the embedded item alone."""
    material = orjson.dumps(item)
    raw = [
        int.from_bytes(blake2b(material, digest_size=4, salt=index.to_bytes(8)).digest()) / 2**31 - 1.0
        for index in range(size)
    ]
    norm = sum(value * value for value in raw) ** 0.5 or 1.0
    return [value / norm for value in raw]


def broken(text: str) -> str:
    """A structured answer as a model spoils it: the end is cut off and talk follows."""
    return text[: max(1, len(text) // 2)] + " … I hope this helps!"


class _Example:
    """Builds a small value that is valid under a schema. Knows the common keywords, not all of them."""

    _DEPTH = 12

    def __init__(self, root: Mapping[str, Any], key: int) -> None:
        self._root = root
        self._key = key

    def value(self, node: Any, path: str, depth: int = 0) -> Any:
        """A value for ``node``; ``path`` makes the choice differ from field to field."""
        if not isinstance(node, Mapping):
            return None
        if "$ref" in node:
            return self.value(self._resolve(str(node["$ref"])), path, depth + 1)
        if "const" in node:
            return node["const"]
        if node.get("enum"):
            return node["enum"][self._pick(path) % len(node["enum"])]
        for keyword in ("anyOf", "oneOf"):
            if node.get(keyword):
                return self._alternative(node[keyword], path, depth)
        if node.get("allOf"):
            return self.value(_merged([{**node, "allOf": None}, *node["allOf"]]), path, depth + 1)
        kind = node.get("type", "object" if "properties" in node else "string")
        if isinstance(kind, list):
            kind = next((name for name in kind if name != "null"), "null")
        return self._of_type(str(kind), node, path, depth)

    def _of_type(self, kind: str, node: Mapping[str, Any], path: str, depth: int) -> Any:
        if kind == "object":
            properties: Mapping[str, Any] = node.get("properties", {})
            names = node["required"] if "required" in node or depth > self._DEPTH else properties
            return {
                name: self.value(properties.get(name, {}), f"{path}.{name}", depth + 1)
                for name in names or ()
            }
        if kind == "array":
            prefix: list[Any] = node.get("prefixItems", [])
            length = max(int(node.get("minItems", 0)), len(prefix))
            items = [*prefix, *[node.get("items", {})] * length][:length]
            return [self.value(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(items)]
        if kind == "string":
            text = f"{self._pick(path):08x}"
            text = text.ljust(int(node.get("minLength", 0)), "0")
            return text[: int(node["maxLength"])] if "maxLength" in node else text
        if kind == "boolean":
            return bool(self._pick(path) & 1)
        return {"integer": self._number, "number": self._number}.get(kind, lambda _node: None)(node)

    @staticmethod
    def _number(node: Mapping[str, Any]) -> int:
        if "exclusiveMinimum" in node:
            low = int(node["exclusiveMinimum"] // 1) + 1
        else:
            low = int(-(-node.get("minimum", 0) // 1))
        step = node.get("multipleOf")
        if isinstance(step, int) and step > 0:
            low = -(-low // step) * step
        # Without a lower bound 0 may lie over the upper one.
        return (
            low
            if "minimum" in node or "exclusiveMinimum" in node
            else min(low, int(node.get("maximum", low) // 1))
        )

    def _alternative(self, options: list[Any], path: str, depth: int) -> Any:
        if depth > self._DEPTH:  # a recursive schema ends where it may: at a null or a scalar
            ends = [item for item in options if isinstance(item, Mapping) and "$ref" not in item]
            options = ends or options
        return self.value(options[self._pick(path) % len(options)], path, depth + 1)

    def _pick(self, path: str) -> int:
        return int.from_bytes(blake2b(f"{self._key}{path}".encode(), digest_size=4).digest())

    def _resolve(self, reference: str) -> Any:
        node: Any = self._root
        for part in reference.removeprefix("#").strip("/").split("/"):
            name = part.replace("~1", "/").replace("~0", "~")
            node = node.get(name) if isinstance(node, Mapping) and name else node
        return node


def _merged(nodes: list[Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for node in nodes:
        for name, value in node.items():
            if name == "properties":
                merged[name] = {**merged.get(name, {}), **value}
            elif name == "required":
                merged[name] = list(dict.fromkeys([*merged.get(name, []), *value]))
            else:
                merged[name] = value
    return {name: value for name, value in merged.items() if value is not None}


def _size_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _prompt_bytes(value: Any) -> int:
    """UTF-8 bytes of the strings in a prompt, roles and part types aside. Runs once or twice per row."""
    if isinstance(value, str):
        return _size_bytes(value)
    if isinstance(value, dict):
        return sum(_prompt_bytes(item) for name, item in value.items() if name not in ("role", "type"))
    if isinstance(value, list):
        return sum(map(_prompt_bytes, value))
    return 0
