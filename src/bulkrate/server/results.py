"""The result files of a batch, made from its answer log when it ends.

Labels are decided here and not before: batch calibration needs the scores of all the rows that chose among
the same labels. Everything is a function of the input file and the log, so a crash half way costs nothing:
the files are made again, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, overload

from bulkrate.ledger.answer_log import AnswerLog
from bulkrate.server.answers import Calibration, Tally, result_line, unrun_line
from bulkrate.server.input_file import read_row
from bulkrate.server.records import BatchRecord

MIN_ROWS_PER_LABEL = 2
"""Fewer rows than this for each label say nothing about how the model leans; they keep their raw labels."""


@dataclass(slots=True)
class Results:
    """A batch's answers, ready to be written."""

    tally: Tally = field(default_factory=Tally)
    labels: dict[str, Calibration] = field(default_factory=dict)


class LoggedScores(Sequence[Mapping[str, float]]):
    """The label scores of some rows, read from the log each time: 50,000 rows of 77 labels stay on disk."""

    def __init__(self, log: AnswerLog, ids: Sequence[str]) -> None:
        self._log, self._ids = log, ids

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, index: int) -> Mapping[str, float]: ...

    @overload
    def __getitem__(self, index: slice) -> LoggedScores: ...

    def __getitem__(self, index: int | slice) -> Mapping[str, float] | LoggedScores:
        if isinstance(index, slice):
            return LoggedScores(self._log, self._ids[index])
        answer = self._log.get(self._ids[index])
        assert answer is not None
        scores: Mapping[str, float] = answer["scores"]
        return scores


def gather(log: AnswerLog) -> Results:
    """Count a finished batch's answers and decide its labels."""
    found, groups = Results(), dict[tuple[str, ...], list[str]]()
    for custom_id, answer in log.entries():
        found.tally.add(answer)
        scores = answer.get("scores")
        if scores is not None:
            if answer.get("calibrate", True):
                groups.setdefault(tuple(sorted(scores)), []).append(custom_id)
            else:
                found.labels[custom_id] = Calibration("none")
    for labels, ids in groups.items():
        from bulkrate.server.engines.scoring import MINIMUM_ROWS, calibrate

        if len(ids) < max(MINIMUM_ROWS, MIN_ROWS_PER_LABEL * len(labels)):
            found.labels.update((custom_id, Calibration("none", len(ids))) for custom_id in ids)
            continue
        chosen = calibrate(LoggedScores(log, ids))
        for custom_id, label in zip(ids, chosen, strict=True):
            found.labels[custom_id] = Calibration("batch", len(ids), label)
    return found


def write_output(
    record: BatchRecord, input_path: Path, log: AnswerLog, results: Results, file: BinaryIO
) -> None:
    """The rows that have an answer, in the order of the input file."""
    for custom_id in _custom_ids(input_path):
        answer = log.get(custom_id)
        if answer is not None and "error" not in answer:
            calibration = results.labels.get(custom_id)
            file.write(result_line(record.id, custom_id, record.model or "", answer, calibration))


def write_errors(
    record: BatchRecord, input_path: Path, log: AnswerLog, unrun_code: str, file: BinaryIO
) -> None:
    """The rows that were refused, failed, or never had their turn (`unrun_code`), in input order."""
    for custom_id in _custom_ids(input_path):
        answer = log.get(custom_id)
        if answer is None:
            file.write(unrun_line(record.id, custom_id, unrun_code))
        elif "error" in answer:
            file.write(result_line(record.id, custom_id, record.model or "", answer, None))


def _custom_ids(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        for line in file:
            yield read_row(line)[0]
