"""Money in the ledger: a row per shard for what it may cost and did, and the ledger's own limit.

Rows outlive their run: what `clean` forgets was spent all the same.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection, delete, insert, or_, select, text, update

from bulkrate.core.budget import Held, Scope, held, month_of
from bulkrate.ledger.records import ReservationRecord
from bulkrate.ledger.tables import budgets, reservations, runs

# A PostgreSQL advisory lock. SQLite's writers take turns anyway.
_MONEY_LOCK = 0x6D6F6E79


def lock(connection: Connection) -> None:
    """Until the transaction ends nobody else reserves or approves: what is read now stays true."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MONEY_LOCK})


def found(connection: Connection, *, run: str | None, month: str | None) -> list[ReservationRecord]:
    """What counts for the run, or for the month."""
    wanted = {reservations.c.run: run, reservations.c.month: month}
    either = or_(*(column == value for column, value in wanted.items() if value is not None))
    query = select(reservations).where(either).order_by(reservations.c.id)
    return [ReservationRecord(**row._mapping) for row in connection.execute(query)]


def held_for(connection: Connection, run: str, at: datetime, but: Collection[int]) -> dict[Scope, Held]:
    """What counts against each limit on a run at that moment, but for these shards of it."""
    job_name, month = (
        connection.execute(select(runs.c.job_name).where(runs.c.id == run)).scalar(),
        month_of(at),
    )
    counted = found(connection, run=run, month=month)
    counted = [each for each in counted if each.run != run or each.shard not in but]
    now = [each for each in counted if each.month == month]
    return {
        Scope.RUN: held(each for each in counted if each.run == run),
        Scope.JOB: held(each for each in now if each.job_name == job_name),
        Scope.LEDGER: held(now),
    }


def reserve(connection: Connection, run: str, shard: int, amount: Decimal | None, at: datetime) -> None:
    """The shard may cost `amount` from here on, in the month it was first reserved for."""
    _put(connection, run, shard, at, reserved=amount)


def settle(connection: Connection, run: str, shard: int, cost: Decimal | None, at: datetime) -> None:
    """The shard has ended, and cost this much."""
    _put(connection, run, shard, at, cost=cost, settled_at=at)


def _put(connection: Connection, run: str, shard: int, at: datetime, **values: object) -> None:
    here = (reservations.c.run == run) & (reservations.c.shard == shard)
    if connection.execute(update(reservations).where(here).values(values)).rowcount:
        return
    job_name = select(runs.c.job_name).where(runs.c.id == run).scalar_subquery()
    values |= {"run": run, "shard": shard, "job_name": job_name, "month": month_of(at)}
    connection.execute(insert(reservations).values(values))


def release(connection: Connection, run: str, shard: int) -> None:
    """Nothing of the shard can cost anything any more; a settled cost stays."""
    here = (reservations.c.run == run) & (reservations.c.shard == shard)
    connection.execute(delete(reservations).where(here, reservations.c.settled_at.is_(None)))


def forget_run(connection: Connection, run: str) -> None:
    """The run is deleted; what it cost is not."""
    connection.execute(update(reservations).where(reservations.c.run == run).values(run=None))


def budget(connection: Connection) -> Decimal | None:
    """The most the ledger's runs may cost in a month, if that was set."""
    query = select(budgets.c.amount).where(budgets.c.scope == Scope.LEDGER)
    amount: Decimal | None = connection.execute(query).scalar()
    return amount


def set_budget(connection: Connection, amount: Decimal | None, at: datetime) -> None:
    """Set it; None takes it away."""
    connection.execute(delete(budgets).where(budgets.c.scope == Scope.LEDGER))
    if amount is not None:
        connection.execute(insert(budgets), {"scope": Scope.LEDGER, "amount": amount, "set_at": at})
