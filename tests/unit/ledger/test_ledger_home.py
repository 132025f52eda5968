"""The state directory and the lock of a run."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bulkrate.errors import ConfigError, RunBusy
from bulkrate.ledger import Home

HOLD = """
import sys
from pathlib import Path
from bulkrate.ledger import Home
with Home(Path(sys.argv[1])).run_lock("r1"):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_the_state_directory_is_beside_the_start(tmp_path: Path) -> None:
    home = Home.find(tmp_path, env={})
    assert home.root == tmp_path / ".bulkrate"
    assert home.root.is_dir()
    assert home.ledger_path.parent == home.server_dir.parent == home.cache_dir.parent == home.root
    assert home.run_dir("r1") == home.root / "runs" / "r1"
    assert Home.find(tmp_path, env={"BULKRATE_HOME": ""}) == home


def test_the_environment_wins_and_folders_are_made(tmp_path: Path) -> None:
    home = Home.find(tmp_path, env={"BULKRATE_HOME": str(tmp_path / "a" / "b")})
    assert home.root == tmp_path / "a" / "b"
    assert home.root.is_dir()
    assert not (tmp_path / ".bulkrate").exists()


def test_it_defaults_to_the_current_directory_and_the_process_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BULKRATE_HOME", raising=False)
    assert Home.find().root == tmp_path / ".bulkrate"
    monkeypatch.setenv("BULKRATE_HOME", str(tmp_path / "elsewhere"))
    assert Home.find().root == tmp_path / "elsewhere"


def test_it_is_private_and_kept_out_of_git(tmp_path: Path) -> None:
    home = Home.find(tmp_path, env={})
    assert stat.S_IMODE(home.root.stat().st_mode) == 0o700
    assert (home.root / ".gitignore").read_text() == "*\n"
    (home.root / ".gitignore").write_text("mine\n")
    Home.find(tmp_path, env={})
    assert (home.root / ".gitignore").read_text() == "mine\n"


def test_each_directory_takes_leases_under_a_name_of_its_own(tmp_path: Path) -> None:
    one, two = (Home.find(tmp_path / name, env={}) for name in ("one", "two"))
    assert one.holder != two.holder
    assert one.holder == Home.find(tmp_path / "one", env={}).holder
    assert sorted(path.name for path in one.root.iterdir()) == [".gitignore", "id"]
    # A container with the same host name and the same path, but another disk.
    before = one.holder
    shutil.rmtree(one.root)
    assert Home.find(tmp_path / "one", env={}).holder != before


def test_a_place_that_cannot_be_made_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as caught:
        Home.find(env={"BULKRATE_HOME": str(tmp_path / "file" / "home")})
    assert caught.value.hint is not None


def test_a_held_run_names_its_holder(tmp_path: Path) -> None:
    home = Home.find(tmp_path, env={})
    with home.run_lock("r1"), home.run_lock("r2"), pytest.raises(RunBusy, match=str(os.getpid())):
        home.run_lock("r1").__enter__()
    with home.run_lock("r1"):
        pass


def test_the_lock_ends_with_its_process_however_it_ends(tmp_path: Path) -> None:
    home = Home.find(tmp_path, env={})
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(RunBusy, match=f"process {holder.pid}"), home.run_lock("r1"):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with home.run_lock("r1"):
        assert (home.run_dir("r1") / "lock").read_text() == str(os.getpid())


def test_a_lock_on_a_deleted_folder_does_not_stop_the_next_run(tmp_path: Path) -> None:
    home = Home.find(tmp_path, env={})
    with home.run_lock("r1"):
        shutil.rmtree(home.run_dir("r1"))  # what `clean` does while it holds the run
        with home.run_lock("r1"):
            assert (home.run_dir("r1") / "lock").exists()
