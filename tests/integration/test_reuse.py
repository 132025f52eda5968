"""Answers that are there already: taken over by key and content, and shared by equal requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
from table_desk import ROWS, Desk

from bulkrate.pipeline.report import report


def test_a_changed_source_sends_only_the_difference(desk: Desk) -> None:
    desk.write(ROWS)
    desk.run()
    desk.write([("T-new", "brand new"), *ROWS[:10], ("T-10", "edited"), *ROWS[11:]])
    result = desk.run()
    assert result["rows"] == {"total": 31, "succeeded": 31, "failed": 0, "rejected": 0, "pending": 0}
    assert result["requests"] == {"sent": 2}
    assert desk.accepted() == 32
    answers = {line["id"]: line["output"] for line in desk.answers()}
    assert answers["T-10"] == "EDITED"
    assert answers["T-new"] == "BRAND NEW"
    assert answers["T-29"] == "TICKET 29"


def test_answers_are_taken_over_through_several_runs_and_after_the_first_is_cleaned(desk: Desk) -> None:
    desk.write(ROWS)
    first = desk.run()["run"]
    desk.write([*ROWS, ("T-30", "one more")])
    desk.run()
    with desk.workspace.home.run_lock(first), desk.workspace.ledger.transaction("test") as tx:
        tx.delete_run(first)
    desk.write([*ROWS, ("T-30", "one more"), ("T-31", "and another")])
    assert desk.run()["requests"] == {"sent": 1}
    assert [line["output"] for line in desk.answers()][:2] == ["TICKET 0", "TICKET 1"]


def test_a_changed_template_sends_everything(desk: Desk) -> None:
    desk.write(ROWS)
    desk.run()
    request = {"model": "openai/gpt-4o-mini", "prompt": "again: {{ body }}", "max_output_tokens": 20}
    assert desk.run(desk.job(request=request))["requests"] == {"sent": 30}


def test_a_larger_cap_sends_only_what_was_cut(desk: Desk) -> None:
    desk.write(ROWS)
    desk.run()
    request = {"model": "openai/gpt-4o-mini", "prompt": "{{ body }}", "max_output_tokens": 200}
    assert desk.run(desk.job(request=request))["requests"] == {"sent": 0}


def test_fresh_sends_everything_again(desk: Desk) -> None:
    desk.write(ROWS)
    desk.run()
    assert desk.run(fresh=True)["requests"] == {"sent": 30}
    assert desk.accepted() == 60


def test_equal_prompts_of_free_text_stay_as_many_answers(desk: Desk) -> None:
    desk.write([(f"T-{number}", "the same") for number in range(20)])
    assert desk.run()["requests"] == {"sent": 20}


def test_equal_requests_for_a_choice_are_answered_once(tmp_path: Path, misbehaving_provider: Any) -> None:
    desk = Desk(tmp_path, misbehaving_provider())
    desk.write([(f"T-{number}", f"body {number % 3}") for number in range(21)])
    output = {"choice": ["a", "b", "c"]}
    request = {"model": "openai/gpt-4o-mini", "prompt": "{{ body }}", "output": output}
    result = desk.run(desk.job(request=request))
    assert result["requests"] == {"sent": 3}
    assert result["rows"]["succeeded"] == 21
    answers = [line["output"] for line in desk.answers()]
    assert set(answers) <= {"a", "b", "c"}
    assert answers[:3] * 7 == answers


def test_aliases_follow_a_leader_that_fails_and_is_retried(tmp_path: Path, misbehaving_provider: Any) -> None:
    provider = misbehaving_provider("bad_rows=1")
    desk = Desk(tmp_path, provider)
    desk.write([(f"T-{number}", "one body") for number in range(5)])
    result = desk.run(desk.job(reuse="exact"))
    assert result["rows"]["failed"] == 5
    assert desk.workspace.retry(result["run"]) == 5
    anyio.run(lambda: desk.workspace.advance(result["run"], poll_s=0.01))
    again = report(desk.workspace.ledger, desk.workspace.run(result["run"]))
    assert again["rows"]["succeeded"] == 5
    assert provider.meter.rows_accepted == 2
