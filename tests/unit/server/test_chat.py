"""How messages become the text that the model reads; token counts elsewhere depend on every character."""

from __future__ import annotations

import minijinja
import pytest

from bulkrate.server.engines.chat import UnsupportedMessages, completion, render

# `tokenizer.chat_template` in SmolLM2-135M-Instruct's GGUF.
TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, "
    "trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def chat(*turns: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, _, text in (turn.partition(": ") for turn in turns)]


@pytest.mark.parametrize(
    "messages",
    [
        chat("user: Hello"),
        chat("system: Be brief.", "user: Hello", "assistant: Hi!", "user: Why?\n\n  "),
    ],
)
def test_text_is_rendered_as_the_model_files_own_template(messages: list[dict[str, str]]) -> None:
    environment = minijinja.Environment(keep_trailing_newline=True)
    expected = environment.render_str(TEMPLATE, messages=messages, add_generation_prompt=True)
    assert render(messages) == expected


def test_a_choice_is_a_document_to_continue() -> None:
    messages = chat("system: Sort.", "user: It is late. ", "assistant: delivery", "user: Charged twice")
    assert render(messages, ("delivery", "payment")) == (
        "Sort.\n\nIt is late.\nLabel: delivery\n\nCharged twice\nLabel:"
    )
    assert completion("payment") == " payment\n"


def test_a_prompt_may_bring_its_own_cue() -> None:
    assert render(chat("user: Great film!\nMood: "), ("good", "bad")) == "Great film!\nMood:"


def test_text_parts_are_joined_and_developer_is_system() -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    messages = [{"role": "developer", "content": "Sort."}, {"role": "user", "content": parts}]
    assert render(messages, ("a",)) == "Sort.\n\nHello\nLabel:"


@pytest.mark.parametrize(
    "messages",
    [
        [],
        chat("user: Hello", "assistant: Hi"),
        [{"role": "tool", "content": "x"}, *chat("user: Hello")],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}],
        [{"role": "user", "content": None}],
        [{"role": "user"}],
    ],
)
def test_what_the_model_cannot_read_is_refused(messages: list[dict[str, object]]) -> None:
    with pytest.raises(UnsupportedMessages):
        render(messages)


def test_an_answer_without_a_question_is_refused_with_labels() -> None:
    with pytest.raises(UnsupportedMessages):
        render(chat("assistant: delivery", "user: Late"), ("delivery",))
