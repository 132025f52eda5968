"""Which prompts go together, and what of them is computed once."""

from __future__ import annotations

import numpy as np

from bulkrate.server.engines.prefixes import Together, common_length, together


def prompts(*texts: str) -> list:
    return [np.array([ord(letter) for letter in text], np.int64) for text in texts]


def plan(*texts: str, known: int = 0, budget: int = 1000, each: int = 0, most: int = 100) -> Together:
    return together(prompts(*texts), known_tokens=known, pass_tokens=budget, each_tokens=each, most=most)


def test_common_length() -> None:
    a, b, c = prompts("abcd", "abxd", "abcd")
    assert (common_length(a, b), common_length(a, c), common_length(a[:0], b)) == (2, 4, 0)


def test_the_prefix_that_saves_most_wins_over_the_longest() -> None:
    # Two share "head: same", five share "head: ".
    assert plan("head: same1", "head: same2", "head: x", "head: y", "head: z").prefix_tokens == 6
    assert plan("head: same1", "head: same2", "head: x", "head: y", "head: z").members == (0, 1, 2, 3, 4)


def test_prompts_of_another_job_wait() -> None:
    assert plan("first job: a", "second job: a", "first job: b", "second job: b").members == (0, 2)


def test_the_last_token_is_never_shared() -> None:
    assert plan("same", "same", "same") == Together((0, 1, 2), 3)


def test_a_lone_prompt_uses_what_is_known_of_it() -> None:
    assert plan("alone", known=3) == Together((0,), 3)
    assert plan("alone", known=5) == Together((0,), 4)


def test_a_batch_ends_at_its_limits_but_holds_one() -> None:
    assert plan("p1", "p2", "p3", "p4", most=3).members == (0, 1, 2)
    assert plan("p1", "p2", "p3", "p4", budget=2).members == (0, 1)
    assert plan("p1", "p2", "p3", budget=3, each=1).members == (0,)
    assert plan("very long indeed", budget=2).members == (0,)
