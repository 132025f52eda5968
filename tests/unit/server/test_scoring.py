"""The label tree, its scores, and calibration over a batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkrate.server.engines.scoring import MINIMUM_ROWS, LabelTree, calibrate, log_softmax

END = 0
labels_as_tokens = st.lists(
    st.lists(st.integers(1, 4), min_size=1, max_size=4).map(lambda tokens: (*tokens, END)),
    min_size=1,
    max_size=8,
    unique=True,
)


def test_a_tree_reads_only_what_leads_to_a_fork() -> None:
    card, card_arrival, card_linking, cash = (1, END), (1, 2, 3, END), (1, 2, 4, END), (5, 6, 7, END)
    tree = LabelTree.of([card, card_arrival, card_linking, cash])
    assert tree.forks == ((), (1,), (1, 2))
    assert tree.tokens == ((1, 5), (END, 2), (3, 4))
    assert tree.nodes == ((1, -1), (2, 0))  # nothing of `cash` after its first token, no leaves
    assert tree.node_of == (-1, 0, 1)
    assert tree.routes == (((0, 0), (1, 0)), ((0, 0), (1, 1), (2, 0)), ((0, 0), (1, 1), (2, 1)), ((0, 1),))


def test_labels_apart_at_the_first_token_need_nothing_but_the_prompt() -> None:
    assert LabelTree.of([(1, END), (2, 3, END), (4, END)]).nodes == ()


def test_one_label_needs_no_model() -> None:
    assert LabelTree.of([(1, 2, END)]).forks == ()


@pytest.mark.parametrize("labels", [[(1, END), (1, END)], [(1,), (1, 2)]])
def test_labels_that_cannot_be_told_apart_are_refused(labels: list[tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="differ"):
        LabelTree.of(labels)


@given(labels=labels_as_tokens, seed=st.integers(0, 1000))
def test_scores_are_a_distribution_over_the_labels(labels: list[tuple[int, ...]], seed: int) -> None:
    tree = LabelTree.of(labels)
    if not tree.forks:
        return
    random = np.random.default_rng(seed)
    scores = tree.scores([random.normal(0, 5, (3, len(tokens))).astype(np.float32) for tokens in tree.tokens])
    assert np.exp(scores).sum(axis=1) == pytest.approx([1, 1, 1])
    for path, (token, parent) in zip(tree.nodes, tree.nodes, strict=True):
        assert path == (token, parent)
        assert -1 <= parent < len(tree.nodes)


def test_a_score_is_the_sum_of_the_choices_on_its_way() -> None:
    tree = LabelTree.of([(1, 2, END), (1, 3, END), (4, END)])
    root, below = np.array([[1.0, 0.0]], np.float32), np.array([[0.0, 2.0]], np.float32)
    scores = tree.scores([root, below])[0]
    first, second = log_softmax(root)[0], log_softmax(below)[0]
    assert scores == pytest.approx([first[0] + second[0], first[0] + second[1], first[1]])


def biased_batch(rows: int) -> list[dict[str, float]]:
    """Alternately a's and b's, seen through a strong preference for a."""
    return [{"a": -0.1, "b": -3.0} if row % 2 else {"a": -0.5, "b": -1.0} for row in range(rows)]


def test_calibration_takes_a_preference_out() -> None:
    assert calibrate(biased_batch(MINIMUM_ROWS)) == ["b", "a"] * (MINIMUM_ROWS // 2)


def test_few_rows_stay_as_they_are() -> None:
    assert calibrate(biased_batch(MINIMUM_ROWS - 1)) == ["a"] * (MINIMUM_ROWS - 1)
    assert calibrate([]) == []


def test_ties_go_to_the_first_label_and_equal_rows_get_equal_answers() -> None:
    assert calibrate([{"x": -1.0, "y": -1.0}]) == ["x"]
    assert len(set(calibrate([{"x": -1.0, "y": -2.0}] * 50))) == 1


def test_rows_with_other_labels_are_an_error() -> None:
    with pytest.raises(ValueError, match="score"):
        calibrate([{"a": 0.0, "b": -1.0}, {"a": 0.0}])
    with pytest.raises(ValueError, match="same labels"):
        calibrate([{"a": 0.0}, {"a": 0.0, "b": -1.0}])


def test_the_order_of_a_rows_labels_does_not_matter() -> None:
    rows = biased_batch(40)
    turned = [dict(reversed(row.items())) for row in rows]
    assert calibrate(rows) == calibrate([rows[0], *turned[1:]])


def test_log_softmax_survives_large_logits() -> None:
    assert log_softmax(np.array([1000.0, 1000.0])) == pytest.approx([math.log(0.5)] * 2)
