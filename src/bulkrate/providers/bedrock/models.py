"""What is known of a model by its name, whatever stands around the name."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bulkrate.providers.facts import Facts, read_facts

PACKAGE = "bulkrate.providers.bedrock"

# A geography in front of an inference profile's model: "us.anthropic.claude-…".
_GEOGRAPHY = re.compile(r"^(?:us|us-gov|eu|apac|jp|au|ca|global)\.(?=[a-z0-9]+\.)")


@dataclass(frozen=True, slots=True)
class Model:
    """How a model is asked: `body` names the shape of its requests, `structured` how it is held to a schema:
    `native`, by a `tool`, or in `words`."""

    body: str
    structured: str
    reasons: bool


def base_name(model: str) -> str:
    """The model's own name: without an ARN and without a geography."""
    return _GEOGRAPHY.sub("", model.rpartition("/")[2] if model.startswith("arn:") else model)


def facts() -> Facts:
    """The dated facts."""
    return read_facts(PACKAGE)


def model_of(model: str) -> Model:
    """What the facts say of a model; an unknown one is asked in the shape of Converse, in words."""
    name, table = base_name(model), facts().table["models"]
    body = next((shape for prefix, shape in table["body"].items() if name.startswith(prefix)), "converse")
    structured = "words" if body == "converse" else "tool"
    if name.startswith(tuple(table["structured_output"]["native"])):
        structured = "native"
    return Model(body, structured, facts().reasons(name))
