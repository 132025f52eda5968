"""A real PostgreSQL for the tests: one server per session, started here, and an empty schema per test."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Thread

import pytest

from bulkrate.ledger import Ledger

# The order of words is not that of their bytes in most installations, so it is not so here.
INITDB = ("--username=bulkrate", "--auth=trust", "--encoding=UTF8", "--no-sync", "--no-instructions")
ICU = ("--locale=C", "--locale-provider=icu", "--icu-locale=en-US")
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",  # what the ledger must not trust
    "listen_addresses": "",
    "max_connections": "60",
    "shared_buffers": "16MB",
}

# Runs the server until standard input ends, which it does however the tests end. SIGINT: connections are cut.
UNTIL_ORPHANED = '"$@" & server=$!; cat; kill -INT $server; wait $server'


@dataclass(frozen=True)
class Server:
    """A running server, reached through a socket in its folder."""

    folder: Path

    @property
    def url(self) -> str:
        """The URL of its database."""
        return f"postgresql://bulkrate@/postgres?host={self.folder}"

    def schema(self, name: str) -> str:
        """The URL of a new, empty schema."""
        self.execute(f'CREATE SCHEMA "{name}"')
        return f"{self.url}&options=-csearch_path%3D{name}"

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Run a statement, beside the ledger."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return [] if cursor.description is None else cursor.fetchall()


def binaries() -> Path | None:
    """The folder with the server's programs, the newest version first."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    versions = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdigit()]
    folders += sorted(versions, key=lambda path: -int(path.parent.name))
    return next(
        (path for path in folders if (path / "initdb").exists() and (path / "postgres").exists()), None
    )


def server_user() -> pwd.struct_passwd | None:
    """Who runs the server: PostgreSQL refuses root. None: this user."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    pytest.fail("no user to run PostgreSQL as: root may not")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """The server. Without PostgreSQL on this machine: a skip, or a failure where CI is set."""
    folder = binaries()
    if folder is None:
        reason = "PostgreSQL's server is not installed (initdb, postgres)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    # Not pytest's own folder: that is closed to other users.
    with tempfile.TemporaryDirectory(prefix="bulkrate-postgres-", ignore_cleanup_errors=True) as place:
        yield from running(folder, Path(place))


def running(folder: Path, place: Path) -> Iterator[Server]:
    """A server with its data in `place`, stopped afterwards."""
    user = server_user()
    who: dict[str, object] = {"cwd": place, "env": {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"}}
    if user is not None:
        os.chown(place, user.pw_uid, user.pw_gid)
        who |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    data = place / "data"
    command = [folder / "initdb", "--pgdata", data, *INITDB]
    made = subprocess.run([*command, *ICU], capture_output=True, text=True, check=False, **who)
    if made.returncode:  # built without ICU
        shutil.rmtree(data, ignore_errors=True)
        made = subprocess.run([*command, "--locale=C"], capture_output=True, text=True, check=False, **who)
        assert made.returncode == 0, made.stderr
    settings = {**SETTINGS, "unix_socket_directories": place}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    server = [folder / "postgres", "-D", data, *options]
    process = subprocess.Popen(
        ["/bin/sh", "-c", UNTIL_ORPHANED, "sh", *server],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **who,
    )
    assert process.stdin is not None
    try:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if "ready to accept connections" in line:
                break
        else:
            pytest.fail("PostgreSQL did not start:\n" + "".join(said))
        # What it says later must not fill the pipe.
        Thread(target=process.stderr.read, daemon=True).start()
        yield Server(place)
    finally:
        process.stdin.close()
        process.wait(timeout=60)


_SCHEMAS = count(1)


@pytest.fixture
def postgres_url(postgres: Server) -> str:
    """The URL of an empty schema on the server."""
    return postgres.schema(f"test{next(_SCHEMAS)}")


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new ledger may be: a file, then a schema on the server."""
    if request.param == "sqlite":
        return str(tmp_path / "ledger.sqlite")
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    """A new ledger."""
    with Ledger.open(ledger_url) as ledger:
        yield ledger
