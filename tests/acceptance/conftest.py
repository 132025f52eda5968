"""The command line and its provider, as fixtures; no test may leave the key anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from command_line import KEY, CommandLine

from bulkrate.testing import MisbehavingProvider


@pytest.fixture
def bulkrate(tmp_path: Path) -> Iterator[CommandLine]:
    """The command in an empty folder, without a provider."""
    command = CommandLine(tmp_path)
    yield command
    assert command.leaks(KEY) == []


@pytest.fixture
def with_provider(bulkrate: CommandLine) -> Iterator[Callable[..., CommandLine]]:
    """The command with a misbehaving provider, which runs in this process: `with_provider("missing=2")`."""
    with ExitStack() as stack:

        def make(faults: str = "", *, polls: int = 2) -> CommandLine:
            provider = MisbehavingProvider(faults, seed=7, polls=polls, api_key=KEY)
            bulkrate.provider = stack.enter_context(provider)
            return bulkrate

        yield make


@pytest.fixture(scope="session")
def clean_answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Each ticket's answer from a provider that behaves: what every other run must deliver, too."""
    with MisbehavingProvider(api_key=KEY) as provider:
        command = CommandLine(tmp_path_factory.mktemp("clean"), provider)
        done = command("run", command.tickets(), "--yes", "--poll", "0.02")
        assert done.code == 0, done.err
        assert provider.meter.rows_accepted == 1_000
    answers = {row["id"]: row["output"] for row in command.answers()}
    assert len(set(answers.values())) > 100, "answers must differ, or a wrong join would go unseen"
    return answers
