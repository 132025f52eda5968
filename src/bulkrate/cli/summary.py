"""What a run came to, in a few lines; and what to do next."""

from __future__ import annotations

import shlex
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bulkrate.cli.quoting import quote_error
from bulkrate.cli.snapshot import duration
from bulkrate.cli.terminal import Terminal, quoted
from bulkrate.core.retry import PASSING
from bulkrate.core.run_states import RunState
from bulkrate.pipeline.expected import expected_band
from bulkrate.pipeline.reasons import first_reasons
from bulkrate.pipeline.reforecast import full_report
from bulkrate.pipeline.report import bill_of, exit_code
from bulkrate.pipeline.run_folder import RunFolder

if TYPE_CHECKING:
    from bulkrate.ledger.records import RunRecord
    from bulkrate.pipeline.workspace import Workspace

SHOWN_BATCHES = 10

ADVICE = {
    "bad_request": "the provider takes these rows for malformed: change them or the job, then run it again",
    "refused": "the model or a filter declines these rows: change them or the prompt, then run it again",
    "truncated": "raise request.max_output_tokens (in a batch file, that of its lines), then run it again",
    "too_long": "shorten these rows, or choose a model with a larger context window",
}


def finish(terminal: Terminal, workspace: Workspace, run: RunRecord) -> int:
    """Tell how a run stands and, for --json, print its report; returns the exit code."""
    code = exit_code(workspace.ledger, run, workspace.setup(run).job.max_failed)
    document = full_report(workspace, run)
    terminal.pairs(title_of(run), summary_pairs(workspace, run, document))
    for hint in next_steps(workspace, run, document):
        terminal.hint(hint)
    if terminal.json:
        terminal.document(document)
    return code


def title_of(run: RunRecord) -> str:
    """The heading: which run, and how it stands."""
    title = f"run {run.id} of {run.job_name}: {run.state}"
    if run.finished_at is not None and run.approved_at is not None:
        title += f" after {duration(max(run.finished_at - run.approved_at, timedelta()))}"
    return title


def summary_pairs(
    workspace: Workspace, run: RunRecord, document: dict[str, Any], *, batches: bool = False
) -> list[tuple[str, str]]:
    """The lines of the summary: label and value."""
    rows = document["rows"]
    states = ("succeeded", "failed", "rejected", "pending")
    parts = [f"{rows[state]:,} {state}" for state in states if rows[state]] or ["none"]
    pairs = [("rows", f"{rows['total']:,}: {', '.join(parts)}")]
    reasons: dict[str, str] = {}
    if rows["failed"]:
        reasons = first_reasons(workspace.ledger, RunFolder(workspace.home.run_dir(run.id)), run.id)
    for name, count in document["failures"].items():
        reason = f"; first: {quoted(reasons[name])}" if name in reasons else ""
        pairs.append(("failures", f"{count:,} {name}{reason}"))
    if run.error:
        pairs.append(("stopped by", quoted(run.error)))
    if batches:
        pairs += _batches(document)
    usage = document["usage"]
    if any(usage.values()):
        cached = f" ({usage['cached_tokens']:,} of them cached)" if usage["cached_tokens"] else ""
        pairs.append(("tokens", f"{usage['input_tokens']:,} in{cached}, {usage['output_tokens']:,} out"))
    unexplained = document["unattributed"]
    if any(unexplained.values()):
        said = f"{unexplained['input_tokens']:,} in, {unexplained['output_tokens']:,} out"
        pairs.append(("unattributed", f"{said}: billed, but no row explains them"))
    pairs += _cost(workspace, run)
    pairs += _expected(document)
    if document["sink"] is not None:
        pairs.append(("answers", document["sink"]))
    return pairs


def _batches(document: dict[str, Any]) -> list[tuple[str, str]]:
    batches = document["batches"]
    pairs = [
        ("batches", f"{batch['id']}  {batch['state']}  {batch['requests']:,} requests")
        for batch in batches[-SHOWN_BATCHES:]
    ]
    if len(batches) > SHOWN_BATCHES:
        pairs.append(("batches", f"and {len(batches) - SHOWN_BATCHES} before these"))
    return pairs


def _cost(workspace: Workspace, run: RunRecord) -> list[tuple[str, str]]:
    """Quoted beside billed: trust comes from that line."""
    from decimal import ROUND_CEILING

    from bulkrate.pricing.money import format_money

    quote = workspace.quote(run)
    if quote is None or run.state in (RunState.ASSEMBLING, RunState.READY):
        return []
    if quote.free:
        return [("cost", "none: it runs on this machine")]
    billed = bill_of(workspace.ledger, run, workspace.prices)
    if not billed.lines and run.state is not RunState.FINISHED:
        return []  # nothing was reported yet
    if billed.cost is None:
        return [("cost", f"not known: no price for {', '.join(billed.unpriced)}")]
    dated = billed.lines[0].prices_dated if billed.lines else quote.prices_dated
    prices = "" if dated is None else f", prices of {dated.isoformat()}"
    if quote.cost_max is None:
        quoted_at = "quoted without an upper end"
    else:
        most = format_money(quote.cost_max, quote.currency, rounding=ROUND_CEILING)
        quoted_at = f"quoted at most {most}"
    cost = f"{format_money(billed.cost, billed.currency)} by the tokens reported ({quoted_at}{prices})"
    pairs = [("cost", cost)]
    expected = expected_band(workspace.ledger, run)
    foretold = quote.cost_max if expected is None else expected.expected
    if foretold is not None and run.state is RunState.FINISHED:
        pairs.append(("quote error", quote_error(foretold, billed.cost, billed.currency)))
    if billed.live and billed.saving:
        share = round(100 * billed.saving / billed.live)
        pairs.append(("live price", f"{format_money(billed.live, billed.currency)}; {share} % saved"))
    return pairs


def _expected(document: dict[str, Any]) -> list[tuple[str, str]]:
    """What was expected when it was approved, and what it comes to by now."""
    from bulkrate.cli.outlook import above, band

    expected, now = document["expected"], document["forecast"]
    pairs = []
    if expected is not None:
        # Before the end what was billed is only a part: more than expected is more already.
        comes_to = document["bill"]["cost"] if now is None else now["expected"]
        warning = "; warning: it comes to more" if above(comes_to, expected) else ""
        pairs.append(("expected", band(expected) + warning))
    if now is not None:
        pairs.append(("forecast", band(now)))
    return pairs


def next_steps(workspace: Workspace, run: RunRecord, document: dict[str, Any]) -> list[str]:
    """What to do next, most useful first."""
    if run.state is RunState.READY:
        return [f"`bulkrate run {file_of(run)}` shows the quote again and asks for approval"]
    if run.state is not RunState.FINISHED:
        return [f"`bulkrate wait {run.id}` follows it, `bulkrate cancel {run.id}` ends it"]
    hints = []
    failures = document["failures"]
    source = document["source"]
    if source["changed"] or source["added"]:
        hints.append(
            "the source changed during the run: run the job again to answer "
            f"{source['changed'] + source['added']:,} rows as they are now"
        )
    hints += [f"{name}: {ADVICE[name]}" for name in failures if name in ADVICE]
    if any(str(name) in failures for name in (*PASSING, "cancelled", "invalid_output")):
        hints.append(f"`bulkrate retry {run.id}` sends the failed rows again")
    if document["rows"]["rejected"]:
        command = f"`bulkrate check {file_of(run)}`"
        hints.append(f"{command} lists the rejected rows; so do the answers, with status rejected")
    return hints


def file_of(run: RunRecord) -> str:
    """The run's job file as one types it here; FILE where it has none, or has it no more."""
    path = Path(run.job_path or "")
    if not path.is_file():
        return "FILE"
    here = Path.cwd()
    return shlex.quote(quoted(str(path.relative_to(here) if path.is_relative_to(here) else path)))
