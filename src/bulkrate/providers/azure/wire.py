"""Requests in Azure's JSON, which is OpenAI's: the model is a deployment, urls may have no version. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from bulkrate.core.request import Choice, Output
from bulkrate.providers.azure.results import decode_line
from bulkrate.providers.labels import LABEL
from bulkrate.providers.openai.wire import OpenAIWire
from bulkrate.providers.provider import Decoded


@dataclass(frozen=True, slots=True)
class AzureWire(OpenAIWire):
    """OpenAI's wire. `known` are beginnings of model names: only then is it known not to reason."""

    known: tuple[str, ...] = ()

    def decode(self, line: bytes, output: Output) -> Decoded | None:
        return decode_line(line, label=LABEL if isinstance(output, Choice) else None)

    def derived_cap(self, model: str, output: Output, answer_tokens: int | None) -> int | None:
        # Behind a name of the owner's own may be a model that reasons: a tight cap would cut its answers.
        if not model.startswith(self.known):
            return None
        return OpenAIWire.derived_cap(self, model, output, answer_tokens)
