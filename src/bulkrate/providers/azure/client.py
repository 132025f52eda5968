"""OpenAI's calls at Azure's addresses; only single answers are asked for differently."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from bulkrate.core.lanes import Lane
from bulkrate.core.limits import Limits
from bulkrate.errors import RequestRefused
from bulkrate.providers.azure.surface import Surface
from bulkrate.providers.failures import ANSWER, ROW_FAULTS, Said, json_object
from bulkrate.providers.http import Http
from bulkrate.providers.openai.client import OpenAIConnection
from bulkrate.providers.openai.failures import read_error as read_openai_error
from bulkrate.providers.provider import Answer

LIVE_DEPLOYMENT = "BULKRATE_AZURE_LIVE_DEPLOYMENT"
# What a deployment for batches says to a single request: no fault of the row's.
_NOT_HERE = frozenset({"OperationNotSupported", "DeploymentNotFound", "unsupported_deployment"})


class AzureConnection(OpenAIConnection):
    """Implements `bulkrate.providers.provider.Connection`; `live` is the deployment of single answers."""

    def __init__(self, http: Http, *, surface: Surface, kind: str, live: str, limits: Limits) -> None:
        super().__init__(http, endpoint=surface.endpoints[kind], limits=limits)
        self._path, self._live = surface.answers_at(live, kind), live

    async def answer(self, body: bytes, lane: Lane) -> Answer:
        raw = await self._http.call(
            ANSWER,
            "POST",
            self._path,
            json={**json.loads(body), "model": self._live},
            timeout_s=self._limits.answer_timeout_s,
            answers=ROW_FAULTS,
        )
        fields = json_object(raw.content)
        if raw.status_code in ROW_FAULTS and (code := read_error(raw.status_code, fields).code) in _NOT_HERE:
            raise RequestRefused(
                f"deployment {self._live} answers no single requests",
                code=code,
                hint=f"export {LIVE_DEPLOYMENT}=… names one that does",
            )
        return Answer(raw.status_code, fields)


def read_error(status: int, body: Any, *, token: str = "") -> Said:
    """Read an error answer; `token` is kept out of its message."""
    said = read_openai_error(status, body)
    return replace(said, message=said.message.replace(token, "…")) if token else said
