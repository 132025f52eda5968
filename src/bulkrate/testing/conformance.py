"""What every provider must do, as a test class: subclass it in your package and run pytest.

    from bulkrate.testing import MisbehavingProvider
    from bulkrate.testing.conformance import Counterpart, ProviderConformance

    class TestAcme(ProviderConformance):
        model = "acme/rocket-1"

        @contextmanager
        def counterpart(self, faults, clock):
            with MisbehavingProvider(faults, dialect=AcmeDialect(), now=clock.now) as server:
                yield Counterpart({"ACME_URL": server.base_url, "ACME_KEY": server.api_key}, server)

The true pipeline runs a small job against the counterpart, through one fault after another, in virtual time:
every row comes back with its own answer, nothing is accepted by the provider more often than the fault makes
necessary, and what was billed is what was recorded.
"""

from __future__ import annotations

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import anyio
import pytest

from bulkrate.core.limits import Traits
from bulkrate.core.request import FreeText
from bulkrate.jobs.load import load_job_mapping
from bulkrate.ledger.home import Home
from bulkrate.pipeline.report import report
from bulkrate.pipeline.workspace import Workspace
from bulkrate.providers.provider import WIDEST_TAG, Provider, Slice, Tag
from bulkrate.providers.registry import get_provider
from bulkrate.testing.clock import FakeClock
from bulkrate.testing.meter import Meter

ROWS = 40
LONGEST_S = 4 * 86_400.0


class Metered(Protocol):
    """Whatever counts what the counterpart accepted and billed: `MisbehavingProvider` does."""

    @property
    def meter(self) -> Meter:
        """The counts so far."""


@dataclass(frozen=True, slots=True)
class Counterpart:
    """A stand-in for the service: the environment that leads to it, and its meter."""

    env: Mapping[str, str]
    server: Metered


def _none(traits: Traits) -> int:
    return 0


def _two(traits: Traits) -> int:
    return 2


def _half_of_an_expired(traits: Traits) -> int:
    return ROWS // 2 if traits.partial_on_expiry else ROWS


def _half_of_a_cancelled(traits: Traits) -> int:
    return ROWS // 2 if traits.partial_on_cancel else ROWS


Again = Callable[[Traits], int]

# A fault, and how many rows it may make the provider accept a second time.
FAULTS: dict[str, Again] = {
    "": _none,
    "missing=2": _two,
    "truncate=2": _two,
    "duplicate_rows=5": _none,
    "unknown_ids=5": _none,
    "cut_lines=2": _two,
    "empty_body=2": _two,
    f"expire_after={ROWS // 2}": _half_of_an_expired,
    f"cancel_after={ROWS // 2}": _half_of_a_cancelled,
    "status_503=3": _none,
    "status_404=2": _none,
    "unknown_status=3": _none,
    "upload_cut=1": _none,
    "create_429=2": _none,
    "create_cut=1": _none,
    "create_cut=1,when=before": _none,
    "create_error=1,status=502,when=after": _none,
    "create_cut=1 lookalikes=1": _none,
    "list_error=2 create_cut=1": _none,
    "status_cut=2": _none,
    "download_cut=1": _none,
    "download_short=1": _none,
    "download_page=1": _none,
    "download_error=2": _none,
}

HOSTILE_LINES = (
    b"",
    b"{",
    b"[]",
    b"null",
    b"0",
    b'"text"',
    b"{}",
    b'{"custom_id": null}',
    b'{"custom_id": 7, "response": [], "result": 1, "error": []}',
    b"\xff\xfe\x00",
    b'{"custom_id": "' + b"x" * 70 + b'", "response": null, "error": null}',
    b"[" * 100_000,
)


class ProviderConformance(ABC):
    """The suite. `model` is what a job would say; `without` names faults the counterpart cannot have."""

    model: ClassVar[str]
    without: ClassVar[frozenset[str]] = frozenset()
    _clean: ClassVar[dict[type, list[object]]] = {}  # what each class' rows are answered without a fault

    @abstractmethod
    def counterpart(self, faults: str, clock: FakeClock) -> AbstractContextManager[Counterpart]:
        """The service with these faults, for as long as the context lasts."""

    @property
    def provider(self) -> Provider:
        return get_provider(self.model.partition("/")[0])

    @property
    def traits(self) -> Traits:
        return self.provider.traits(self.model.partition("/")[2])

    # -- the pure half ---------------------------------------------------------------------------------

    @pytest.mark.parametrize("line", HOSTILE_LINES, ids=range(len(HOSTILE_LINES)))
    def test_a_line_that_cannot_be_read_is_no_exception(self, line: bytes) -> None:
        self.provider.wire(self.model.partition("/")[2]).decode(line, FreeText())

    def test_every_tag_is_as_wide_as_the_widest(self) -> None:
        wire = self.provider.wire(self.model.partition("/")[2])
        tags = [Tag("a" * 10, 3, "0" * 32), Tag("z" * 10, 7, "f" * 32, Slice(2, 500, 1_000))]
        widest = sum(map(len, wire.envelope(WIDEST_TAG)))
        assert [sum(map(len, wire.envelope(tag))) for tag in tags] == [widest, widest]

    def test_the_facts_are_there(self) -> None:
        limits = self.provider.limits(self.model.partition("/")[2], {})
        assert limits.requests > 0
        assert limits.file_bytes > 0
        assert self.traits.lanes

    # -- the whole -------------------------------------------------------------------------------------

    @pytest.mark.parametrize("faults", FAULTS, ids=lambda faults: faults or "no fault")
    def test_every_row_comes_back_and_none_is_paid_twice(self, faults: str, tmp_path: Path) -> None:
        if any(fault.partition("=")[0] in self.without for fault in faults.split()):
            pytest.skip("the counterpart cannot have this fault")
        clean = self._clean_answers(tmp_path / "clean") if faults else None
        (tmp_path / "run").mkdir()
        with self._running(faults, tmp_path / "run") as run:
            found = run.to_the_end()
            meter = run.counterpart.server.meter
        assert found["rows"] == {"total": ROWS, "succeeded": ROWS, "failed": 0, "rejected": 0, "pending": 0}
        answers = _answers(tmp_path / "run")
        assert [row["id"] for row in answers] == [f"T-{number}" for number in range(ROWS)]
        if clean is not None:
            assert [row["output"] for row in answers] == clean
        assert meter.rows_accepted <= ROWS + FAULTS[faults](self.traits)
        assert max(meter.accepted_by_custom_id.values()) == 1, "the same request was accepted twice"

    def test_an_empty_disk_finds_its_batches(self, tmp_path: Path) -> None:
        with self._running("", tmp_path) as run:
            run.until_submitted()
            shutil.rmtree(tmp_path / ".bulkrate")
            again = run.again()
            try:
                assert again.to_the_end()["rows"]["succeeded"] == ROWS
            finally:
                again.workspace.close()
            assert run.counterpart.server.meter.rows_accepted == ROWS

    def test_cancelling_keeps_what_was_answered(self, tmp_path: Path) -> None:
        with self._running("", tmp_path) as run:
            run.until_submitted()
            run.workspace.cancel(run.id)
            rows = run.to_the_end()["rows"]
            assert rows["succeeded"] + rows["failed"] == ROWS
            assert run.counterpart.server.meter.rows_accepted == ROWS

    def test_what_was_billed_is_what_was_recorded(self, tmp_path: Path) -> None:
        with self._running("", tmp_path) as run:
            usage = run.to_the_end()["usage"]
            meter = run.counterpart.server.meter
        assert usage["input_tokens"] == meter.billed_input_tokens
        assert usage["output_tokens"] == meter.billed_output_tokens

    # -- running ---------------------------------------------------------------------------------------

    @contextmanager
    def _running(self, faults: str, folder: Path) -> Iterator[_Run]:
        clock = FakeClock()
        with self.counterpart(faults, clock) as counterpart:
            run = _Run(folder, self.model, clock, counterpart)
            try:
                yield run
            finally:
                run.workspace.close()

    def _clean_answers(self, folder: Path) -> list[object]:
        if type(self) not in self._clean:
            folder.mkdir()
            with self._running("", folder) as run:
                run.to_the_end()
            self._clean[type(self)] = [row["output"] for row in _answers(folder)]
        return self._clean[type(self)]


class _Run:
    """One job in one folder, against one counterpart."""

    def __init__(self, folder: Path, model: str, clock: FakeClock, counterpart: Counterpart) -> None:
        self.folder, self.model, self.clock, self.counterpart = folder, model, clock, counterpart
        brief = {"BULKRATE_LIMITS__CREATE_TIMEOUT_S": "5", "BULKRATE_LIMITS__LISTING_LAG_S": "0"}
        env = {**brief, **counterpart.env}
        self.workspace = Workspace(Home.find(folder, env={}), clock=clock, env=env)
        lines = [json.dumps({"id": f"T-{n}", "text": f"Ticket {n:06d} is broken."}) for n in range(ROWS)]
        (folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        job = {
            "name": "conformance",
            "source": {"path": "rows.jsonl", "key": "id"},
            "request": {"model": model, "prompt": "{{ text }}", "max_output_tokens": 20},
            "sink": {"path": "answers.jsonl"},
        }
        run = self.workspace.prepare(load_job_mapping(job, folder))
        self.id = self.workspace.approve(run, decide=lambda quote: True).id

    def until_submitted(self) -> None:
        anyio.run(lambda: self.workspace.advance(self.id, poll_s=60, until_submitted=True))

    def to_the_end(self) -> dict[str, Any]:
        run = anyio.run(lambda: self.workspace.advance(self.id, poll_s=60, timeout_s=LONGEST_S))
        return report(self.workspace.ledger, run)

    def again(self) -> _Run:
        """The same job after the state directory was lost."""
        self.workspace.close()
        return _Run(self.folder, self.model, self.clock, self.counterpart)


def _answers(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]
