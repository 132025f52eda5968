"""Text and JSON answers through OpenVINO GenAI's continuous batching, one decoding step at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bulkrate.server.engine import EngineAnswer, EngineRequest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEFAULT_MAX_TOKENS = 512
CACHE_GB = 1  # reserved, touched only as far as it is used
PASS_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Running:
    """A request inside the pipeline."""

    request: EngineRequest
    handle: Any
    prompt: NDArray[np.int64]
    schema: str  # canonical JSON, "" without one


class TextGenerator:
    """Decodes many requests together. One thread only."""

    def __init__(self, ir_directory: Path, tokenizer: Any, *, context_window: int) -> None:
        """Load the pipeline (about 2 s)."""
        self._directory = ir_directory
        self._tokenizer = tokenizer
        self._context_window = context_window
        self._running: dict[str, Running] = {}
        self._refused: list[EngineAnswer] = []
        self._number = 0
        # A schema is compiled in the first step that needs it, and a bad one ends the whole step without a
        # name. So at most one schema that has not yet proved itself is let in at a time.
        self._proven: set[str] = {""}
        self._broken: dict[str, str] = {}  # schema: the reason
        self._pipeline = self._load()

    def _load(self) -> Any:
        import openvino_genai

        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = CACHE_GB
        scheduler.enable_prefix_caching = True
        scheduler.max_num_batched_tokens = PASS_TOKENS
        return openvino_genai.ContinuousBatchingPipeline(str(self._directory), scheduler, "CPU")

    @property
    def running(self) -> int:
        """Requests being decoded."""
        return len(self._running) + len(self._refused)

    @property
    def priority(self) -> int | None:
        """The highest priority being decoded, or None when idle."""
        if self._refused:
            return 0
        return max((r.request.priority for r in self._running.values()), default=None)

    def can_start(self, request: EngineRequest) -> bool:
        """Whether `start` may be called now; False while another unknown schema is being tried."""
        schema = canonical(request.json_schema)
        return schema in self._proven or schema in self._broken or self._unproven() in ("", schema)

    def start(self, request: EngineRequest, prompt: NDArray[np.int64]) -> None:
        """Put a request into the pipeline; if it is refused, the next step answers with the reason."""
        import openvino

        schema = canonical(request.json_schema)
        if schema in self._broken:
            self._refused.append(failed(request.id, len(prompt), self._broken[schema]))
            return
        self._number += 1
        try:
            handle = self._pipeline.add_request(
                self._number, openvino.Tensor(prompt[None, :]), self._config(request, len(prompt))
            )
        except (RuntimeError, ValueError) as error:
            self._refused.append(failed(request.id, len(prompt), reason(error)))
            return
        self._running[request.id] = Running(request, handle, prompt, schema)

    def cancel(self, request_id: str) -> None:
        """Stop decoding a request."""
        running = self._running.pop(request_id, None)
        if running:
            running.handle.cancel()

    def step(self) -> list[EngineAnswer]:
        """Decode one token for each running request (or read their prompts); returns what finished."""
        import openvino_genai

        answers, self._refused = self._refused, []
        if not self._running:
            return answers
        try:
            self._pipeline.step()
        except RuntimeError as error:
            return answers + self._recover(reason(error))
        for running in list(self._running.values()):
            if running.schema not in self._proven and running.handle.can_read():
                self._proven.add(running.schema)
            if running.handle.get_status() == openvino_genai.GenerationStatus.FINISHED:
                del self._running[running.request.id]
                answers.append(self._answer(running))
        return answers

    def _unproven(self) -> str:
        return next((r.schema for r in self._running.values() if r.schema not in self._proven), "")

    def _recover(self, why: str) -> list[EngineAnswer]:
        """Replace the pipeline after a failed step: answer the guilty requests, start the others again."""
        suspect = self._unproven()
        if suspect:
            self._broken[suspect] = f"the JSON schema is not supported: {why}"
        running = list(self._running.values())
        self._running.clear()
        for each in running:
            each.handle.cancel()
        self._pipeline = self._load()
        for each in running:
            if suspect:
                self.start(each.request, each.prompt)
            else:  # nobody to blame: starting all of them again could fail for ever
                self._refused.append(failed(each.request.id, len(each.prompt), why))
        return []

    def _answer(self, running: Running) -> EngineAnswer:
        outputs = running.handle.read_all()
        tokens = [int(token) for output in outputs for token in output.generated_ids]
        text = str(self._tokenizer.decode(tokens, skip_special_tokens=True))
        stopped = [position for stop in running.request.stop if (position := text.find(stop)) >= 0]
        if stopped:
            text = text[: min(stopped)]
        length = not stopped and str(outputs[-1].finish_reason).endswith("LENGTH")
        return EngineAnswer(
            id=running.request.id,
            text=text,
            finish_reason="length" if length else "stop",
            input_tokens=len(running.prompt),
            cached_tokens=0,  # the pipeline shares prefixes but does not report how much of one
            output_tokens=len(tokens),
        )

    def _config(self, request: EngineRequest, input_tokens: int) -> Any:
        import openvino_genai

        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = min(
            request.max_tokens or DEFAULT_MAX_TOKENS, self._context_window - input_tokens
        )
        config.eos_token_id = self._tokenizer.get_eos_token_id()
        config.stop_token_ids = {self._tokenizer.get_eos_token_id()}
        if request.stop:
            config.stop_strings = set(request.stop)
        if request.temperature > 0:
            config.do_sample = True
            config.temperature = request.temperature
            config.top_p = request.top_p
            if request.seed is not None:
                config.rng_seed = request.seed
        if request.json_schema is not None:
            structured = openvino_genai.StructuredOutputConfig()
            structured.json_schema = json.dumps(request.json_schema)
            config.structured_output_config = structured
        return config


def canonical(schema: Mapping[str, Any] | None) -> str:
    """A schema as one string, for comparing; "" for none."""
    return "" if schema is None else json.dumps(schema, sort_keys=True)


def failed(request_id: str, input_tokens: int, why: str) -> EngineAnswer:
    """An answer that says why there is none."""
    return EngineAnswer(request_id, "", "stop", input_tokens, cached_tokens=0, output_tokens=0, error=why)


def reason(error: Exception) -> str:
    """The library's reason without its source locations, at most 200 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines else type(error).__name__
    return re.sub(r"^\[[0-9:]+\]\s*/\S+:\d+:\s*", "", text)[:200]
