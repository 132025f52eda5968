"""What a batch leaves behind when it ends: its rows' fates, the lines of its two files, and its usage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bulkrate.testing.answers import Answer, Answerer, TokenCounter
from bulkrate.testing.faults import Fate, Fault, FaultPlan
from bulkrate.testing.records import Batch, Codec, Limits, Phase, RowContext, Usage, another

_OUTPUT: Final = frozenset(
    {
        Fate.ANSWERED,
        Fate.TRUNCATED,
        Fate.BAD_JSON,
        Fate.REFUSED_IN_OUTPUT,
        Fate.CUT_LINE,
        Fate.BAD_UTF8,
        Fate.EMPTY_BODY,
    }
)
"""Fates of rows whose line is in the output file."""


@dataclass(slots=True)
class Results:
    """The lines of the output file and of the error file, in the order of the rows, and the totals."""

    output: list[bytes] = field(default_factory=list)
    errors: list[bytes] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    billed: int = 0
    done: int = 0
    failed: int = 0

    def files(self, limits: Limits, phase: Phase) -> dict[str, list[bytes]]:
        """The lines of each file that a batch leaves which ends in ``phase``."""
        if phase in limits.lost_at:
            return {}
        if limits.one_file:
            return {"output": self.output + self.errors}
        return {"output": self.output, "error": self.errors}


@dataclass(slots=True)
class _Ended:
    """A batch that has ended under a plan, with the rows (and request lines) that were simply answered."""

    batch: Batch
    plan: FaultPlan
    ordinal: int
    at: int
    answered: list[tuple[int, bytes]] = field(default_factory=list)

    def chosen(self, fault: Fault | None) -> list[tuple[int, bytes]]:
        """The answered rows that a fault hits."""
        if fault is None:
            return []
        places = self.plan.choose(fault.name, self.ordinal, range(len(self.answered)), fault.count)
        return [self.answered[place] for place in places]


class ResultWriter:
    """Writes results by the plan's faults; remembers which requests it has cut or broken before."""

    def __init__(self, codec: Codec, answer: Answerer, count_tokens: TokenCounter) -> None:
        self._codec, self._answer, self._count_tokens = codec, answer, count_tokens
        self._truncating: set[int] = set()
        self.broken: set[int] = set()

    def write(self, batch: Batch, plan: FaultPlan, ordinal: int, unfinished: Fate, at: int) -> Results:
        """The results of ``batch``, the ``ordinal``-th under ``plan``; rows not run end as ``unfinished``."""
        results = Results()
        fates = self._fates(batch, plan, ordinal, unfinished)
        missing = plan.on_batch("missing", ordinal)
        shown = plan.on_batch("no_usage", ordinal) is None
        statuses = _refusal_statuses(plan, ordinal)
        work = _Ended(batch, plan, ordinal, at)
        for row, line in enumerate(batch.blob.lines()):
            fate = fates.get(row, Fate.ANSWERED)
            context = self._context(batch, row, at, statuses.get(fate, 400), shown=shown)
            written, spent = self._codec.result(line, fate, context)
            if fate in _OUTPUT:
                results.output.append(_damaged(written, fate))
            elif written and fate is not Fate.MISSING:
                results.errors.append(written)
            if fate is Fate.ANSWERED:
                work.answered.append((row, line))
            if fate is Fate.MISSING and missing is not None and not missing.number("billed"):
                spent = None
            if spent is not None:
                results.usage.add(spent)
                results.billed += 1
            # The trap: rows that are in no file still count as completed, and so do refusals among answers.
            results.done += fate in _OUTPUT or fate is Fate.MISSING
            results.failed += fate is Fate.REFUSED
        self._repeats(work, results)
        self._strangers(work, results)
        extra = plan.on_batch("extra_usage", ordinal)
        if extra is not None:
            results.usage.add(Usage(extra.count, 0, extra.count))
        return results

    def single(self) -> RowContext:
        """What an answer outside of any batch needs."""
        return RowContext("", "req_single", 0, 400, self._ask, self._count_tokens)

    def _fates(self, batch: Batch, plan: FaultPlan, ordinal: int, unfinished: Fate) -> dict[int, Fate]:
        scan = batch.scan
        truncate = plan.named("truncate")
        below = 0 if truncate is None else truncate.number("below")
        fates = plan.fates(
            ordinal,
            rows=batch.rows,
            done=batch.done,
            unfinished=unfinished,
            refused=scan.refused,
            can_truncate=lambda row: 0 <= scan.caps[row] < below,
            can_break=lambda row: bool(scan.structured[row]) and scan.contents[row] not in self.broken,
        )
        if self._truncating:  # cut once, a request stays cut until it comes with a larger cap
            for row, content in enumerate(scan.contents):
                if content in self._truncating and 0 <= scan.caps[row] < below and row not in fates:
                    fates[row] = Fate.TRUNCATED
        self._truncating |= {scan.contents[row] for row, fate in fates.items() if fate is Fate.TRUNCATED}
        self.broken |= {scan.contents[row] for row, fate in fates.items() if fate is Fate.BAD_JSON}
        return fates

    def _repeats(self, work: _Ended, results: Results) -> None:
        fault = work.plan.on_batch("duplicate_rows", work.ordinal)
        for row, line in work.chosen(fault):
            as_error = fault is not None and fault.word("second") == "error"
            fate = Fate.REFUSED if as_error else Fate.ANSWERED
            written, _ = self._codec.result(line, fate, self._context(work.batch, row, work.at, 500))
            (results.errors if as_error else results.output).append(written)

    def _strangers(self, work: _Ended, results: Results) -> None:
        fault = work.plan.on_batch("unknown_ids", work.ordinal)
        for nth, (row, line) in enumerate(work.chosen(fault)):
            # By turns an id of no known form, and one that looks like the batch's own.
            known = self._codec.custom_id(line)
            stranger = f"unknown-{nth}" if nth % 2 == 0 else another(known)
            context = self._context(work.batch, row, work.at, 500)
            written, _ = self._codec.result(self._codec.renamed(line, stranger), Fate.ANSWERED, context)
            results.output.append(written)

    def _context(self, batch: Batch, row: int, at: int, status: int, *, shown: bool = True) -> RowContext:
        tail = f"{batch.id[6:14]}{row:08x}"
        return RowContext(
            result_id=f"batch_req_{tail}",
            request_id=f"req_{tail}",
            at=at,
            refusal_status=status,
            answer=self._ask,
            count_tokens=self._count_tokens,
            show_usage=shown,
        )

    def _ask(self, body: Mapping[str, Any]) -> Answer:
        given = self._answer(body)
        return Answer(given) if isinstance(given, str) else given


def _refusal_statuses(plan: FaultPlan, ordinal: int) -> dict[Fate, int]:
    names = {Fate.REFUSED: ("no_output", "bad_rows"), Fate.REFUSED_IN_OUTPUT: ("refused_in_output",)}
    found = {fate: [plan.on_batch(name, ordinal) for name in given] for fate, given in names.items()}
    return {
        fate: next((fault.number("status") for fault in faults if fault is not None), 400)
        for fate, faults in found.items()
    }


def _damaged(line: bytes, fate: Fate) -> bytes:
    """The line as it arrives: whole, cut in the middle, or with bytes that are no text."""
    if fate is Fate.CUT_LINE:
        return line[: len(line) // 2] + b"\n"
    if fate is Fate.BAD_UTF8:
        return _spoilt(line)
    return line


def _spoilt(line: bytes) -> bytes:
    """Put two bytes that UTF-8 cannot have into the answer's text, or else in front of the end."""
    for mark in (b'"content":"', b'"text":"', b'"object":"'):
        place = line.rfind(mark)
        if place >= 0:
            place += len(mark)
            return line[:place] + b"\xff\xfe" + line[place:]
    return line[:-2] + b"\xff\xfe" + line[-2:]
