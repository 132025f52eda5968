"""The job: what a user declares, in a `*.bulk.yaml` file or in Python.

One model behind both. Every field has a description, because the JSON Schema for editors and the reference
page are made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    field_validator,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from bulkrate.core.request import has_hole
from bulkrate.jobs.fields import (
    Duration,
    Model,
    Money,
    Name,
    Number,
    Strings,
    Whole,
    duration_s,
    empty_as_default,
    or_empty,
    wrong,
)
from bulkrate.jobs.request_spec import RequestSpec

LINES_PROVIDER = "openai"
_JSONL_NAMES = (".jsonl", ".ndjson", ".jsonl.gz", ".jsonl.zst", ".ndjson.gz", ".ndjson.zst")


class SourceSpec(BaseModel):
    """Where the rows come from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Annotated[
        Strings,
        Field(
            description="The file with the rows, a glob (`data/*.parquet`), or a list of them, relative to "
            "the job file. CSV, JSON lines, Parquet and Arrow files; text may be compressed (`.gz`, `.zst`)."
        ),
    ]
    key: Annotated[
        Strings | None,
        Field(
            description="The column, or columns, that name a row for ever. Without one the row number is "
            "the key: then a row inserted or removed makes every row after it a new one, to be paid again."
        ),
    ] = None
    format: Annotated[
        Literal["csv", "tsv", "jsonl", "json", "parquet", "arrow"] | None,
        Field(description="The format of the files; guessed from their names if not given."),
    ] = None


class LaneSpec(BaseModel):
    """How the requests travel."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    use: Annotated[
        Literal["batch", "flex", "live"],
        Field(
            description="`batch`: within the provider's window, at the batch rate. `flex`: one by one at the "
            "discounted tier, best effort. `live`: one by one at the list price."
        ),
    ] = "batch"
    deadline: Annotated[
        Duration | None,
        Field(description="When the answers are needed, counted from the start: `24h`, `90m`, `1d12h`."),
    ] = None
    rescue: Annotated[
        Literal["none", "flex", "live"],
        Field(
            description="Where rows go that a batch will not answer before the deadline: the batch is "
            "cancelled in time, its answers are kept, and only the rest is sent again."
        ),
    ] = "none"
    on_in_doubt: Annotated[
        Literal["wait", "resend"],
        Field(
            description="When a create call got no answer and the provider cannot tell our batch from "
            "another one of the same size: `wait` until it ends and shows whose it is, or `resend` and "
            "perhaps pay twice."
        ),
    ] = "wait"
    poll: Annotated[
        Number | None,
        Field(gt=0, description="Seconds between two looks at a batch; if not given, it grows with its age."),
    ] = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.rescue != "none" and self.deadline is None:
            raise wrong("needs a `deadline`", at="rescue")
        if self.rescue != "none" and self.use != "batch":
            raise wrong("is for the batch lane", at="rescue")
        return self

    @property
    def deadline_s(self) -> float | None:
        """The deadline in seconds."""
        return None if self.deadline is None else duration_s(self.deadline)


def _yes_or_no(value: Any) -> Any:
    return {True: "all", False: "none"}[value] if isinstance(value, bool) else value


class SinkSpec(BaseModel):
    """Where the answers go."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Annotated[
        str | None,
        Field(
            min_length=1,
            description="The file to write, relative to the job file (`.jsonl`, `.csv` or `.parquet`). "
            "Default: `<name>.answers.jsonl` beside the job file.",
        ),
    ] = None
    include: Annotated[
        Literal["key", "all"],
        Field(description="Which columns of the source stand beside the answer: only the `key`, or `all`."),
    ] = "key"
    format: Annotated[
        Literal["jsonl", "csv", "parquet"] | None,
        Field(description="The format of the file; guessed from its name if not given."),
    ] = None


class CanarySpec(BaseModel):
    """A sample that is sent and judged before the rest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: Annotated[
        Whole, Field(ge=1, le=10_000, description="How many rows, spread evenly over the source, go first.")
    ] = 50
    max_failed: Annotated[
        Number,
        Field(
            ge=0,
            lt=1,
            description="The share of them, 0 to 1, that may fail through the request's own fault (a bad "
            "parameter, an invalid answer, a refusal); above it the rest is not sent.",
        ),
    ] = 0.1


class BudgetSpec(BaseModel):
    """The most the job may cost."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: Annotated[
        Money | None,
        Field(description="The most that one run may cost, in USD; `--max-cost` says it for a single run."),
    ] = None
    month: Annotated[
        Money | None,
        Field(description="The most that all runs of the job may cost in a calendar month (UTC), in USD."),
    ] = None


def _or_lane_name(schema: dict[str, Any]) -> None:
    or_empty(schema)
    schema["anyOf"].append({"enum": ["batch", "flex", "live"]})


def _lane_by_name(value: Any) -> Any:
    return {"use": value} if isinstance(value, str) else empty_as_default(value)


class Job(BaseModel):
    """A table, a prompt and a place for the answers."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="Bulkrate job")

    name: Annotated[
        Name,
        Field(description="What the job is called in lists and file names: `[a-z0-9][a-z0-9_-]{0,63}`."),
    ]
    source: Annotated[SourceSpec, Field(description="Where the rows come from; each is one request.")]
    request: Annotated[
        RequestSpec | None,
        Field(
            description="What is asked about each row. Left out only when the source already is an OpenAI "
            "batch file (JSON lines with `custom_id`, `url` and `body`)."
        ),
    ] = None
    model: Annotated[
        Model | None,
        Field(
            description="Only without a `request` section: the `provider/model` that answers an OpenAI batch "
            "file. Default: provider `openai`, and the model that each line names."
        ),
    ] = None
    lane: Annotated[
        LaneSpec,
        BeforeValidator(_lane_by_name),
        Field(
            description="How the requests travel; a lane's name alone is short for `{use: …}`.",
            json_schema_extra=_or_lane_name,
        ),
    ] = LaneSpec()
    sink: Annotated[
        SinkSpec,
        BeforeValidator(empty_as_default),
        Field(description="Where the answers go.", json_schema_extra=or_empty),
    ] = SinkSpec()
    on_rejected: Annotated[
        Literal["skip", "fail"],
        Field(
            description="What to do about rows that cannot be sent (an empty prompt, a duplicate key): "
            "`skip` reports them and sends the others, `fail` sends nothing."
        ),
    ] = "skip"
    max_failed: Annotated[
        Number,
        Field(ge=0, le=1, description="The share of rows, 0 to 1, that may fail with exit code 0."),
    ] = 0.0
    reuse: Annotated[
        Literal["exact", "never"] | None,
        Field(
            description="Whether rows with equal requests share one answer: `exact` or `never`. Default: "
            "`exact` for `choice`, `json_schema` and `embed`, `never` for free text."
        ),
    ] = None
    canary: Annotated[
        CanarySpec | None,
        Field(description="A sample that is sent and judged first, so that a broken job stops early."),
    ] = None
    budget: Annotated[
        BudgetSpec,
        BeforeValidator(empty_as_default),
        Field(
            description="The most the job may cost. Nothing is sent that could exceed it, resends and "
            "rescues included; it needs a cap on output.",
            json_schema_extra=or_empty,
        ),
    ] = BudgetSpec()
    tags: Annotated[
        dict[Name, Annotated[str, Field(max_length=200)]],
        Field(description="Words of your own, `team: support` for instance: bills and FOCUS rows have them."),
    ] = Field(default_factory=dict)
    keep_remote: Annotated[
        Literal["none", "results", "all"],
        BeforeValidator(_yes_or_no),
        Field(
            description="What stays with the provider once the run is finished, until it deletes it "
            "by itself: `results` (a run whose folder was lost collects them again and pays nothing), "
            "`none`, or `all`, the input files too. `true` is `all`, `false` is `none`."
        ),
    ] = "results"
    attempts: Annotated[
        Whole, Field(ge=1, le=10, description="How often a row is sent at most, the first time included.")
    ] = 3
    base: Annotated[
        SkipJsonSchema[Path],
        Field(exclude=True, description="The folder that relative paths start from."),
    ] = Field(default_factory=Path.cwd)

    only_rows: SkipJsonSchema[
        Annotated[
            tuple[int, ...] | None,
            Field(description="Row numbers, from 0, in the order they were drawn: those of a pilot."),
        ]
    ] = None

    # Where each field stands in the job file, for messages; set by the loader.
    _origin: Any = PrivateAttr(default=None)
    _file: Path | None = PrivateAttr(default=None)

    @property
    def file(self) -> Path | None:
        """The file that is this job, as `bulkrate run` takes it; None for one that was made otherwise."""
        return self._file

    @classmethod
    def create(cls, **fields: Any) -> Job:
        """A job from keyword arguments; raises `JobError` with one line per problem."""
        from bulkrate.jobs.load import load_job_mapping

        base = fields.pop("base", None)
        return load_job_mapping(fields, base)

    @field_validator("request", mode="after")
    @classmethod
    def _can_be_written(cls, request: RequestSpec | None) -> RequestSpec | None:
        try:
            text = b"" if request is None else orjson.dumps(request.model_dump(mode="json"))
        except (TypeError, ValueError):
            raise wrong("must be made of what JSON can hold") from None
        if has_hole(text.decode()):
            raise wrong("contains private-use characters (U+F8FF U+E0B0) that Bulkrate keeps for itself")
        return request

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.request is not None:
            if self.model is not None:
                raise wrong("belongs under `request`", at="model")
            if self.request.output is not None:
                try:
                    self.request.output.read(self.base)
                except ValueError as error:
                    raise wrong(str(error), at="request.output.json_schema") from None
            return self
        lines = all(path.lower().endswith(_JSONL_NAMES) for path in self.source.path)
        if not lines and self.source.format != "jsonl":
            raise wrong("is missing (only an OpenAI batch file, .jsonl, can do without)", at="request")
        if self.source.key not in (None, ("custom_id",)):
            raise wrong('is always "custom_id" in an OpenAI batch file', at="source.key")
        return self

    @property
    def provider(self) -> str:
        """The provider's name: the part of the model before the slash."""
        model = self.request.model if self.request is not None else self.model
        return LINES_PROVIDER if model is None else model.partition("/")[0]

    @property
    def model_name(self) -> str | None:
        """The provider's name for the model; None when each line of an OpenAI batch file names its own."""
        model = self.request.model if self.request is not None else self.model
        return None if model is None else model.partition("/")[2]

    @property
    def key(self) -> tuple[str, ...] | None:
        """The key columns; None when the row number is the key."""
        return ("custom_id",) if self.request is None else self.source.key

    @property
    def reuse_mode(self) -> Literal["exact", "never"]:
        """`reuse` with its default filled in."""
        if self.reuse is not None:
            return self.reuse
        request = self.request
        bounded = request is not None and (request.output is not None or request.embed is not None)
        return "exact" if bounded else "never"

    @property
    def files(self) -> Path:
        """The folder in which images and documents that are named by path lie."""
        named = None if self.request is None else self.request.files
        return self.base if named is None else self.base / named

    @property
    def sink_path(self) -> Path:
        """The file the answers go to, as an absolute path."""
        return (self.base / (self.sink.path or f"{self.name}.answers.jsonl")).absolute()

    def identity(self) -> bytes:
        """Canonical bytes of what the run tag stands on: name, key, request, caps and reuse.

        How the answers travel, where they go and what they may cost (lane, sink, `attempts`, tolerances,
        budget, tags) is not in it, nor are comments, the order of fields, or whether a default was written
        out.
        """
        request = None if self.request is None else self.request.canonical()
        fields: Mapping[str, Any] = {
            "version": 1,
            "name": self.name,
            "key": self.key,
            "request": request,
            "model": self.model,
            "reuse": self.reuse_mode,
        }
        if self.canary is not None:
            # The sample is the first shard: it decides how rows fall into shards.
            fields = {**fields, "canary": self.canary.rows}
        if self.only_rows is not None:
            fields = {**fields, "only_rows": self.only_rows}
        return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)


__all__ = ["BudgetSpec", "CanarySpec", "Job", "LaneSpec", "RequestSpec", "SinkSpec", "SourceSpec"]
