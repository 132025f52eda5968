"""`bulkrate schema`: the JSON Schema of job files, for editors."""

from __future__ import annotations

import typer

from bulkrate.cli import options
from bulkrate.cli.terminal import Terminal


def schema(context: typer.Context, json: options.Json = False) -> int:
    """Print the JSON Schema of a job file."""
    from bulkrate.jobs.load import job_schema

    terminal: Terminal = context.obj
    terminal.document(job_schema())
    return 0
