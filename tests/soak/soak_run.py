"""One run of the soak: simulated processes, one after another, until the job is done; then the audit."""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import shutil
import signal
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from soak_audit import Audit
from soak_books import Books
from soak_crash import Crash, Killed, Violation
from soak_network import Network
from soak_plan import TIMEOUTS, Plan, Session, answer_to, edited, make_plan
from soak_time import Process, VirtualClock

from bulkrate.core.run_states import RunState
from bulkrate.errors import Refused, RunBusy
from bulkrate.jobs.load import load_job_mapping
from bulkrate.ledger.home import Home
from bulkrate.ledger.ledger import Ledger
from bulkrate.ledger.records import RunRecord
from bulkrate.pipeline import drive, setup
from bulkrate.pipeline.workspace import Workspace
from bulkrate.providers.http import Http
from bulkrate.providers.openai import provider as openai_provider
from bulkrate.providers.openai.client import open_http
from bulkrate.providers.provider import Provider
from bulkrate.providers.registry import get_provider
from bulkrate.testing import MisbehavingProvider

# Long after every timeout: calls that a lost machine had on the wire are over, and listings show them.
DISK_LOST_S = 120.0
MOST_FINAL_SESSIONS = 3
REAL_SECONDS = 60
# Nobody cancels from outside here: a loop that wakes without anything to do only costs real time.
LOOK_S = 3600.0


@dataclass(slots=True)
class Result:
    """How a run of the soak went; `violation` is None when every rule held."""

    seed: int
    violation: str | None
    kills: Counter[str] = field(default_factory=Counter)
    troubles: Counter[str] = field(default_factory=Counter)
    moments: int = 0
    calls: int = 0
    virtual_s: float = 0.0
    batches: int = 0
    overtaken: int = 0
    story: list[str] = field(default_factory=list)


class World:
    """A folder, a provider, a network and a clock, shared by the simulated processes of one run."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
        self.plan = plan
        self.clock = VirtualClock()
        self.provider = MisbehavingProvider(
            seed=plan.seed, polls=plan.polls, answer=self._answer, now=self.clock.now, track_ids=False
        )
        self.audit = Audit(folder, plan, Books(self.provider.state, choice=plan.choice))
        self.crash = Crash(folder, self._committed)
        self.network = Network(self.provider.app, self.clock, self.crash, seed=f"net/{plan.seed}")
        self.story: list[str] = []
        self.overtaken = 0
        self._job = None
        self._dice = random.Random(f"budget/{plan.seed}")
        self._watch_creates()

    # -- the world around the process ----------------------------------------------------------------------

    def _answer(self, body: Mapping[str, Any]) -> str:
        text = answer_to(body["messages"][-1]["content"], choice=self.plan.choice)
        return orjson.dumps({"label": text}).decode() if self.plan.choice else text

    def _watch_creates(self) -> None:
        plain = self.provider.state.create_batch

        def create_batch(*arguments: Any, **options: Any) -> Any:
            batch = plain(*arguments, **options)
            self.audit.books.take(batch)
            wrong = self.audit.books.overpaid(batch, self.audit.allowed()) or self.audit.of_budget()
            if wrong is not None:
                self.crash.note(wrong)
            return batch

        self.provider.state.create_batch = create_batch

    def _committed(self, name: str) -> None:
        wrong = self.audit.of_ledger()
        if wrong is not None:
            self.crash.fail(f"after {name}: {wrong}")

    def _delivered(self) -> None:
        wrong = self.audit.of_joins()
        if wrong is not None:
            self.crash.fail(wrong)

    def moment(self, name: str) -> None:
        """A signal of the code under test."""
        if name == "deliver.after" and not self.crash.dead:
            self._delivered()
        self.crash.moment(name)

    # -- processes -----------------------------------------------------------------------------------------

    def play(self) -> None:
        """Every session of the plan, then as many as it takes to be done with the source as it is."""
        self.audit.write_source()
        for number, session in enumerate(self.plan.sessions):
            dice = random.Random(f"session/{self.plan.seed}/{number}")
            self._before(session, dice)
            self._live(session)
        for _ in range(MOST_FINAL_SESSIONS):
            if self.audit.snapshot_done:
                break
            self.audit.budget = None
            self._live(Session())
        wrong = self.audit.of_end(self.final)
        if wrong is not None:
            self.crash.fail(wrong)

    def _before(self, session: Session, dice: random.Random) -> None:
        self.clock.seconds += session.pause_s
        if session.lose_disk:
            self.clock.run(self.network.deliver_all)
            self.clock.seconds += DISK_LOST_S
            shutil.rmtree(self.folder / ".bulkrate", ignore_errors=True)
            self.audit.forget_ledger()
        if session.edit:
            self.audit.rows = edited(dice, self.audit.rows)
            self.audit.edited = True
            self.audit.write_source()
        if session.faults is not None:
            self.provider.set_faults(session.faults, seed=self.plan.seed)
        self.network.trouble_rate = session.trouble_rate
        self.network.listing_lag_s = session.listing_lag_s

    def _live(self, session: Session) -> None:
        """One process from its start to its end, however it ends."""
        self.story.append(f"{self.clock.seconds:.0f} s: {session}")
        self.crash.live(session.kill_after)
        self.audit.snapshot_done = False
        workspace = self._open()
        process = Process(self.clock, lambda: self._main(workspace, session))
        if session.stop_after is not None:
            self.crash.stop_at(session.stop_after, process.stop)
        try:
            if process.go_on():
                process.result()
            else:
                self._overtaken(process, session)
        except BaseException as error:
            # What a dead process's exceptions look like says nothing; a live one's must not come here.
            if not self.crash.dead or isinstance(error, KeyboardInterrupt):
                raise
        finally:
            self.network.pause()
            process.close()
            workspace.close()
        if (wrong := self.audit.of_budget()) is not None:
            self.crash.note(wrong)
        if self.crash.violation is not None:
            raise Violation(self.crash.violation)
        if self.crash.dead:
            self.crash.bury()

    def _overtaken(self, process: Process[None], session: Session) -> None:
        """A process is stopped past its lease, another one takes the run over, then the first wakes up."""
        self.network.pause()
        self.clock.seconds += session.stopped_s
        self.overtaken += 1
        # Its lock is still held, so only the lease says that it may be taken for dead; a run with nothing
        # left to do but to deliver is not taken from anybody who holds its lock.
        with contextlib.suppress(RunBusy):
            self._live(Session(timeout_s=session.timeout_s))
        self.crash.trace.append("WOKEN UP")
        with contextlib.suppress(RunBusy):
            process.go_on()
            process.result()

    async def _main(self, workspace: Workspace, session: Session) -> None:
        await self.network.resume()
        if self._job is None:
            self._job = load_job_mapping(self.plan.job(), self.folder)
        run = workspace.prepare(self._job)
        try:
            if self.audit.budget is None:
                self._allow(workspace, None)
            run = workspace.approve(run, decide=lambda quote: True)
            if self.audit.budget is not None:
                quote = workspace.quote(run)
                assert quote is not None and quote.cost_max is not None
                # By less than the run may take.
                self.audit.budget += quote.cost_max * self._dice.randint(1, 9) / 10
                self._allow(workspace, self.audit.budget)
            await self._advance(workspace, run, session)
        except Refused:
            self.crash.trace.append("STOPPED BY THE BUDGET")

    def _allow(self, workspace: Workspace, budget: Decimal | None) -> None:
        if self.plan.budgeted:
            with workspace.ledger.transaction("budget") as tx:
                tx.set_budget(budget, self.clock.now())

    async def _advance(self, workspace: Workspace, run: RunRecord, session: Session) -> None:
        snapshot = self.audit.snapshot_of(run.id)
        run = await workspace.advance(
            run.id,
            poll_s=self.plan.poll_s,
            timeout_s=session.timeout_s,
            until_submitted=session.until_submitted,
        )
        if run.state is RunState.FINISHED:
            self.final = run.id
            self.audit.snapshot_done = snapshot == self.audit.rows

    def _open(self) -> Workspace:
        home = Home.find(self.folder, env={})
        if not home.ledger_path.exists():
            shutil.copyfile(_empty_ledger(), home.ledger_path)
        environment = {
            "OPENAI_API_KEY": self.provider.api_key,
            "OPENAI_BASE_URL": "http://provider/v1",
            "BULKRATE_LIMITS__REQUESTS": str(self.plan.shard_rows),
            **{f"BULKRATE_LIMITS__{name}": value for name, value in TIMEOUTS.items()},
        }
        return Workspace(home, env=environment, clock=self.clock)

    def http(self, *, api_key: str, base_url: str | None, **_: Any) -> Http:
        """OpenAI's HTTP, over the virtual network."""
        return open_http(api_key=api_key, base_url=base_url, transport=self.network)


def _root() -> Path:
    """Where the files of a run go: in memory, if TMPDIR does not say otherwise."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and "TMPDIR" not in os.environ else Path(tempfile.gettempdir())


def run_seed(seed: int, root: Path | None = None) -> Result:
    """One run of the soak."""
    folder = (root or _root()) / f"soak-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    world = World(folder, make_plan(seed))
    violation: str | None = None
    with _virtual(world), _time_limit():
        try:
            world.play()
        except (Killed, Violation):
            violation = world.crash.violation or "killed outside of a session"
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            violation = world.crash.violation or f"{type(error).__name__}: {error}"
            world.crash.trace.extend(traceback.format_exception(error))
    world.audit.close()
    shutil.rmtree(folder, ignore_errors=True)
    return Result(
        seed=seed,
        violation=violation,
        kills=world.crash.killed_at,
        troubles=world.network.troubles,
        moments=world.crash.moments,
        calls=world.network.calls,
        virtual_s=world.clock.seconds,
        batches=len(world.audit.books.taken),
        overtaken=world.overtaken,
        story=[*world.story, *world.crash.trace] if violation else [],
    )


@contextlib.contextmanager
def _virtual(world: World) -> Iterator[None]:
    """The one seam: OpenAI's `connect` gets a client whose network is virtual. The rest is for speed."""
    plain, look_s = openai_provider.open_http, drive.LOOK_S
    openai_provider.open_http = world.http
    drive.LOOK_S = LOOK_S
    Ledger.open = _known_ledger
    setup.get_provider = _known_provider
    world.crash.listen(world.moment)
    try:
        yield
    finally:
        world.crash.silence()
        openai_provider.open_http, drive.LOOK_S = plain, look_s
        Ledger.open = _open_ledger
        setup.get_provider = get_provider


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    """A run that spins without ever reaching a moment is a violation too."""

    def too_long(*_: object) -> None:
        raise Violation("the run does not end: it spins")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(REAL_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


_by_name = cache(get_provider)
_open_ledger = Ledger.open
_ledgers: dict[Path, Ledger] = {}


def _known_provider(name: str, _env: Mapping[str, str] | None = None) -> Provider:
    """The provider, looked up once for all runs."""
    return _by_name(name)


def _known_ledger(path: Path) -> Ledger:
    """The ledger at a path; a closed one is opened anew by its next use, its compiled statements kept."""
    if path not in _ledgers:
        _ledgers[path] = _open_ledger(path)
    return _ledgers[path]


@cache
def _empty_ledger() -> Path:
    """A migrated ledger to copy: a migration takes longer than a whole run."""
    folder = Path(tempfile.mkdtemp(prefix="soak-ledger-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "ledger.sqlite"
    _open_ledger(path).close()
    return path
