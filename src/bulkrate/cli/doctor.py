"""`bulkrate doctor`: is everything here that a run needs? What is wrong, and what to do about it."""

from __future__ import annotations

import json as json_module
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from bulkrate.cli import options
from bulkrate.cli.terminal import Terminal
from bulkrate.errors import BulkrateError, ConfigError

if TYPE_CHECKING:
    from bulkrate.jobs.spec import Job
    from bulkrate.pipeline.workspace import Workspace

LOW_DISK_BYTES = 10**9
# No run has this tag: what is asked for is only whether the listing can be had.
NOBODY = "0" * 10

Name = Annotated[
    str | None,
    typer.Argument(metavar="[PROVIDER]", help="Look at this one. Default: `local`, and those with a key."),
]
Batch = Annotated[
    str | None,
    typer.Option(
        "--batch", metavar="MODEL", help="Also send a batch of one row to this model. It costs what it costs."
    ),
]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    ok: bool
    message: str
    hint: str | None = None


def doctor(
    context: typer.Context,
    provider: Name = None,
    *,
    batch: Batch = None,
    yes: options.Yes = False,
    json: options.Json = False,
) -> int:
    """Look at the state directory, the ledger, keys and the way to the providers. Nothing is spent.

    `--batch provider/model` goes further: a batch of one row, there and back. Exit code 1 when something is
    wrong.
    """
    terminal: Terminal = context.obj
    findings = []
    for finding in _findings(terminal, provider):
        findings.append(finding)
        if not json:
            _say(terminal, finding)
    code = 0 if all(finding.ok for finding in findings) else 1
    if json:
        terminal.document({"ok": code == 0, "findings": [asdict(finding) for finding in findings]})
    if batch is not None and code == 0:
        return _one_row(terminal, batch, yes=yes)
    return code


def _say(terminal: Terminal, finding: Finding) -> None:
    terminal.data([f"{'ok' if finding.ok else 'WRONG':5}  {finding.name}: {finding.message}\n".encode()])
    if finding.hint:
        terminal.data([f"       {finding.hint}\n".encode()])


def _findings(terminal: Terminal, only: str | None) -> Iterator[Finding]:
    from bulkrate.cli.choosing import workspace_of
    from bulkrate.cli.providers import describe
    from bulkrate.providers.registry import get_provider, provider_names

    try:
        with workspace_of(terminal) as workspace:
            yield from _home(workspace)
            if only is not None:
                get_provider(only, terminal.env)
            for name in provider_names(terminal.env) if only is None else [only]:
                known = describe(name, terminal.env)
                # Servers that need no key are many, and few of them are there: only when asked for. One that
                # is asked for without its key says what is missing, or has a login.
                if only is not None or known["key_found"] or name == "local":
                    yield _way(workspace, name)
    except BulkrateError as error:
        yield Finding("ledger" if only is None else only, False, error.message, error.hint)


def _home(workspace: Workspace) -> Iterator[Finding]:
    import shutil

    root = workspace.home.root
    yield Finding("state directory", True, str(root))
    free_bytes = shutil.disk_usage(root).free
    low = free_bytes < LOW_DISK_BYTES
    hint = "results that do not fit cannot be kept" if low else None
    yield Finding("disk", not low, f"{free_bytes / 10**9:,.1f} GB free", hint)
    runs = workspace.ledger.runs(unfinished=True)
    yield Finding("ledger", True, f"opened; {len(runs)} unfinished run{'' if len(runs) == 1 else 's'}")


def _way(workspace: Workspace, name: str) -> Finding:
    """Whether the provider can be reached with the key there is: one listing, which is free."""
    import anyio

    from bulkrate.providers.registry import get_provider

    provider = get_provider(name, workspace.env)
    if name == "local":
        return _installed()

    async def main() -> None:
        connection = await provider.connect("", env=workspace.env, state_dir=workspace.home.root)
        try:
            since = workspace.clock.now() - timedelta(minutes=1)
            await connection.find_run(NOBODY, since, frozenset())
        finally:
            await connection.aclose()

    return _tried(name, lambda: anyio.run(main), "reached, and the key is accepted")


def _installed() -> Finding:
    from bulkrate.providers.local.models import local_models

    models = [model for model in local_models().values() if model.weights is not None]
    missing = [str(model.weights) for model in models if not model.installed]
    if missing:
        # One answers chats, the other embeds texts: few need both.
        said = f"weights are missing: {', '.join(missing)}"
        return Finding("local", len(missing) < len(models), said, "bulkrate models")
    return Finding("local", True, "its models are installed")


def _tried(name: str, look: Callable[[], None], message: str) -> Finding:
    try:
        look()
    except BulkrateError as error:
        return Finding(name, False, error.message, error.hint)
    return Finding(name, True, message)


def _one_row(terminal: Terminal, model: str, *, yes: bool) -> int:
    """A job of one row, run as any other."""
    from bulkrate.cli.choosing import workspace_of
    from bulkrate.cli.driving import drive_run
    from bulkrate.cli.run import begin
    from bulkrate.cli.summary import finish

    with workspace_of(terminal) as workspace:
        job = _job(workspace, model)
        begun = begin(terminal, workspace, job, fresh=True, yes=yes, max_cost=None)
        return finish(terminal, workspace, drive_run(terminal, workspace, begun.id))


def _job(workspace: Workspace, model: str) -> Job:
    from bulkrate.jobs.load import load_job_mapping

    folder = workspace.home.root / "doctor"
    folder.mkdir(exist_ok=True)
    source = folder / "one-row.jsonl"
    source.write_text(json_module.dumps({"word": "ready"}) + "\n", encoding="utf-8")
    if "/" not in model:
        raise ConfigError(f"--batch wants provider/model, not {model!r}", code="usage")
    request = {"model": model, "prompt": "Say: {{ word }}", "max_output_tokens": 50}
    return load_job_mapping(
        {
            "name": "doctor",
            "source": {"path": source.name},
            "request": request,
            "sink": {"path": "answer.jsonl"},
        },
        folder,
    )
