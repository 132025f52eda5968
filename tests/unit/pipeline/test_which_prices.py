"""Which price file counts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bulkrate.errors import ConfigError
from bulkrate.ledger.home import Home
from bulkrate.pipeline.prices import find_prices
from bulkrate.pipeline.workspace import Workspace

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def _file(path: Path, source: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'[[price]]\nmodel = "house/tiny"\nfrom = 2026-01-01\nsource = "{source}"\nlive = {{ input = 1 }}\n'
    )
    return path


def _source(home: Home, env: dict[str, str]) -> str | None:
    found = find_prices(home, env).rate("house", "tiny", "live", NOW)
    return None if found is None else found.source


def test_the_named_file_then_the_state_directory_then_the_folder(tmp_path: Path) -> None:
    home = Home.place(tmp_path, {})
    assert _source(home, {}) is None
    _file(tmp_path / "prices.toml", "folder")
    assert _source(home, {}) == "folder"
    _file(tmp_path / ".bulkrate" / "prices.toml", "state")
    assert _source(home, {}) == "state"
    named = _file(tmp_path / "elsewhere" / "mine.toml", "named")
    assert _source(home, {"BULKRATE_PRICES": str(named)}) == "named"


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        find_prices(Home.place(tmp_path, {}), {"BULKRATE_PRICES": str(tmp_path / "no.toml")})


def test_a_run_is_quoted_and_billed_by_them(tmp_path: Path) -> None:
    from bulkrate.jobs.load import load_job_mapping

    (tmp_path / "rows.csv").write_text("id,text\n1,a\n2,b\n")
    _file(tmp_path / "prices.toml", "").write_text(
        '[[engine]]\nmodel = "openai/gpt-4.1-nano"\nfrom = 2026-01-01\nsource = "bench"\n'
        "per_hour = 2\nrows_per_hour = 100\n"
    )
    job = load_job_mapping(
        {
            "name": "j",
            "source": {"path": "rows.csv", "key": "id"},
            "request": {"model": "openai/gpt-4.1-nano", "prompt": "{{ text }}", "max_output_tokens": 5},
            "sink": {"path": "out.jsonl"},
        },
        tmp_path,
    )
    workspace = Workspace(Home.find(tmp_path, {}), env={"BULKRATE_WORKERS": "1"})
    try:
        quote = workspace.quote(workspace.prepare(job))
    finally:
        workspace.close()
    assert quote is not None
    assert (quote.prices_source, str(quote.batch_max)) == ("bench", "0.04")
