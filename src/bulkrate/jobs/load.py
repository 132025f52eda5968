"""Job files and mappings in, `Job` objects or one complete complaint out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bulkrate.errors import JobError
from bulkrate.jobs.document import Defect, Document, read_document
from bulkrate.jobs.messages import defects_of, job_error
from bulkrate.jobs.spec import Job

_LINES_SUFFIXES = (".zst", ".gz", ".jsonl", ".ndjson")


def load_job(path: str | Path) -> Job:
    """Read a job file (`*.bulk.yaml`, `.yaml`, `.yml` or `.json`).

    Raises `JobError` with all problems found, one `file:line: field: what is wrong` per line.
    """
    file = Path(path)
    job = _load(read_document(file, str(path)), file.parent.absolute())
    job._file = file.absolute()
    return job


def load_job_mapping(data: Mapping[str, Any], base: str | Path | None = None) -> Job:
    """A job from plain data. `base` is the folder relative paths start from (None: the current one)."""
    folder = Path.cwd() if base is None else Path(base).absolute()
    return _load(Document(dict(data)), folder)


def openai_batch_job(path: str | Path, model: str | None = None) -> Job:
    """An OpenAI batch file as a job by itself: named after the file, the answers beside it.

    `model` is a `provider/model` that answers instead of provider `openai` and the model each line names.
    """
    file = Path(path)
    name = file.name
    for suffix in _LINES_SUFFIXES:
        name = name.removesuffix(suffix)
    data: dict[str, Any] = {"name": job_name(name), "source": {"path": file.name, "format": "jsonl"}}
    if model is not None:
        data["model"] = model
    job = load_job_mapping(data, file.parent)
    if model is None:
        job._file = file.absolute()
    return job


def job_name(text: str) -> str:
    """The nearest allowed job name."""
    name = re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_")[:64]
    return name or "job"


def job_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a job file, for editors."""
    from pydantic.json_schema import GenerateJsonSchema

    class WithoutTitles(GenerateJsonSchema):
        """Editors show titles, and "Max Output Tokens" says nothing that the field's name does not."""

        def field_title_should_be_set(self, schema: Any) -> bool:
            return False

    schema = Job.model_json_schema(schema_generator=WithoutTitles)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _load(document: Document, base: Path) -> Job:
    from bulkrate.jobs.compiled import template_defects

    data = document.data
    if not isinstance(data, Mapping):
        what = "is empty" if data is None else "must be a list of fields, `name: value`"
        raise JobError(
            f"{document.at(document.line_of(()))}the job {what}", hint="`bulkrate init` writes an example"
        )
    defects = list(document.defects)
    job: Job | None = None
    ours = [name for name in ("base", "only_rows") if name in data]
    defects += [Defect((name,), document.line_of((name,)), "there is no such field") for name in ours]
    try:
        job = Job.model_validate({**data, "base": base})
    except ValidationError as error:
        # What YAML did to a word is the cause; what the model says about the same word is its effect.
        known = {defect.place for defect in defects}
        known |= {place[: place.index("json_schema") + 1] for place in known if "json_schema" in place}
        defects += [defect for defect in defects_of(error, document, Job) if defect.place not in known]
    except (TypeError, RecursionError) as error:
        raise JobError(f"{document.at(None)}cannot be understood: {error}") from None
    if job is not None:
        job._origin = document
        defects += template_defects(job)
    if job is None or defects:
        raise job_error(document, defects)
    return job
