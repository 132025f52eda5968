"""Putting a job's parts together: source, template, dialect, counter, limits. No network, no key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from bulkrate.compute.workers import worker_count
from bulkrate.core.limits import Limits
from bulkrate.core.request import Choice, FreeText, Output
from bulkrate.datasets.drawn_rows import DrawnRows
from bulkrate.datasets.sink import SinkError, check_path, copied_columns
from bulkrate.datasets.source import Source, check_columns, open_source
from bulkrate.errors import SourceError
from bulkrate.jobs.bounds import longest_answers, max_answer_chars
from bulkrate.jobs.compiled import origin_of
from bulkrate.jobs.document import Defect
from bulkrate.jobs.messages import job_error
from bulkrate.jobs.spec import Job
from bulkrate.jobs.template import LineTemplate, RowTemplate
from bulkrate.pipeline.encode import Encoder, LineEncoder, TemplateEncoder
from bulkrate.pipeline.partition import Checks
from bulkrate.pricing import PUBLISHED, PriceList
from bulkrate.providers.provider import WIDEST_TAG, Configurable, Provider, Wire
from bulkrate.providers.registry import get_provider
from bulkrate.tokens import TokenCounter, counter_for

NO_LIMIT_BYTES = 1 << 62


@dataclass
class Setup:
    """Everything a job means, worked out on demand. Raises `JobError`, `SourceError`, `ConfigError`."""

    job: Job
    env: Mapping[str, str]
    prices: PriceList = PUBLISHED

    @cached_property
    def provider(self) -> Provider:
        """The job's provider, which has the job's lanes."""
        found = get_provider(self.job.provider, self.env)
        if isinstance(found, Configurable):
            found = found.configured(self.env)
        lane, offered = self.job.lane, found.traits(self.job.model_name or "").lanes
        for field, name in (("use", lane.use), ("rescue", lane.rescue)):
            if name not in (*offered, "none"):
                document, place = origin_of(self.job), ("lane", field)
                message = f"{self.job.provider} has no {name} lane"
                hint = " or ".join(f"`lane.{field}: {other}`" for other in offered) + " is what it has"
                raise job_error(document, [Defect(place, document.line_of(place), message, hint)])
        return found

    def check(self) -> None:
        """Raise what no row can mend: a provider, lane or kind of request that there is not, or a sink that
        cannot be, or is the source."""
        _ = self.wire
        check_path(self.job.sink_path, self.job.sink.format)
        self.check_sink(self.job.sink_path)

    def check_sink(self, path: Path) -> None:
        """Raise `SinkError` if answers written to `path` would take the place of rows."""
        if path.resolve() in [file.resolve() for file in self.source.files]:
            raise SinkError(
                f"the answers would replace {path.name}, which is a file of the source",
                code="sink_is_source",
                hint="write them to another file, and one that no pattern of source.path matches",
            )

    @cached_property
    def source(self) -> Source:
        """The source, its columns held against those the job needs."""
        spec = self.job.source
        source = open_source(list(spec.path), spec.format, self.job.base)
        needed = set(self.job.key or ())
        if self.template is not None:
            needed |= self.template.columns
        check_columns(source, sorted(needed))
        return source if self.job.only_rows is None else DrawnRows(source, self.job.only_rows)

    @property
    def row_numbers(self) -> tuple[int, ...] | None:
        """The source's own numbers of the rows, ascending, where these are only some of its rows."""
        return None if self.job.only_rows is None else tuple(sorted(self.job.only_rows))

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """All columns of the source; of JSON lines, which have no header, by reading them once."""
        return tuple(column.name for column in copied_columns(self.source))

    @cached_property
    def template(self) -> RowTemplate | None:
        """The compiled template; None for a source whose rows are requests already."""
        return None if self.job.request is None else RowTemplate(self.job)

    @cached_property
    def model(self) -> str:
        """The provider's name for the model; of a ready-made batch file, the one its first line names."""
        if self.job.model_name is not None:
            return self.job.model_name
        for block in self.source.blocks(100):
            for row in block.rows:
                body = None if row is None else row.get("body")
                if isinstance(body, Mapping) and isinstance(body.get("model"), str):
                    return str(body["model"])
        raise SourceError(
            "no line of the source names a model", hint="is this an OpenAI batch file? it has `body.model`"
        )

    @cached_property
    def kind(self) -> str:
        """`chat`, `responses` or `embed`; of a ready-made batch file, by its first readable line."""
        if self.job.request is not None and self.job.request.api == "responses":
            return "responses"
        if self.template is not None:
            return self.template.request.kind
        for block in self.source.blocks(100):
            for row in block.rows:
                if row is not None and "url" in row:
                    endings = {"embeddings": "embed", "responses": "responses"}
                    return endings.get(str(row["url"]).rpartition("/")[2], "chat")
        return "chat"

    @cached_property
    def wire(self) -> Wire:
        apis = self.provider.traits(self.model).apis
        if self.kind == "responses" and self.kind not in apis:
            place = ("model",) if self.job.request is None else ("request", "api")
            document = origin_of(self.job)
            defect = Defect(place, document.line_of(place), f"{self.job.provider} has no Responses API")
            raise job_error(document, [defect])
        return self.provider.wire(self.model, self.kind)

    @cached_property
    def limits(self) -> Limits:
        return self.provider.limits(self.model, self.env)

    @cached_property
    def make_counter(self) -> Callable[[], TokenCounter]:
        """What makes the counter, here or in another process."""
        return partial(counter_for, self.job.provider, self.model)

    @cached_property
    def counter(self) -> TokenCounter:
        return self.make_counter()

    @cached_property
    def workers(self) -> int:
        """How many processes work on rows."""
        return worker_count(self.env)

    @property
    def output(self) -> Output:
        return FreeText() if self.template is None else self.template.request.output

    @cached_property
    def base_cap(self) -> int | None:
        """The output cap: the job's own, else what the output's longest answer needs; None: uncapped."""
        if self.job.request is None or self.kind == "embed":
            return None
        if self.job.request.max_output_tokens is not None:
            return self.job.request.max_output_tokens
        answers = longest_answers(self.output)
        if answers is not None:
            tokens: int | None = max(self.counter.count_texts(answers), default=0)
        else:
            # A token is at least one character of the answer.
            tokens = max_answer_chars(self.output)
        return self.wire.derived_cap(self.model, self.output, tokens)

    @cached_property
    def encoder(self) -> Encoder:
        if self.template is None:
            return LineEncoder(LineTemplate(self.job), self.wire, kind=self.kind)
        self.template.request = replace(self.template.request, max_output_tokens=self.base_cap)
        labels = self.output.labels if isinstance(self.output, Choice) else ()
        return TemplateEncoder(self.template, self.wire, labels)

    @property
    def max_output_tokens(self) -> int | None:
        """The most tokens an answer can be billed for: none for an embedding."""
        return 0 if self.kind == "embed" else self.base_cap

    @property
    def checks(self) -> Checks:
        return Checks(
            context_window=self.provider.context_window(self.model),
            output_tokens=self.base_cap or 0,
            line_bytes=self.limits.line_bytes or min(self.limits.file_bytes, NO_LIMIT_BYTES),
        )

    @property
    def envelope_bytes(self) -> int:
        """What the dialect puts around a body, custom_id included."""
        from bulkrate.core.identity import CUSTOM_ID_LENGTH

        return sum(map(len, self.wire.envelope(WIDEST_TAG))) + CUSTOM_ID_LENGTH

    def document(self) -> dict[str, Any]:
        """The resolved job, for the ledger: enough to go on without the job file."""
        job = self.job.model_dump(mode="json", exclude_unset=True)
        if self.job.request is not None and self.job.request.output is not None:
            schema = self.job.request.output.document
            if schema is not None:
                # By value: the run keeps its schema when the file it came from changes.
                job["request"]["output"] = {"json_schema": schema}
        return {"job": job, "base": str(self.job.base)}

    @classmethod
    def from_document(
        cls, document: Mapping[str, Any], env: Mapping[str, str], prices: PriceList = PUBLISHED
    ) -> Setup:
        """A run's setup from what the ledger kept."""
        return cls(Job.model_validate({**document["job"], "base": document["base"]}), env, prices)
