"""SQLAlchemy over psycopg, asyncpg, psycopg2 and pg8000: its pool, savepoints, streams."""

from checks import Suite, same
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, event, func, insert, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session, registry

suite = Suite("sqlalchemy")
meta = MetaData()
table = Table("drv_sa", meta, Column("a", Integer, primary_key=True), Column("b", String))


class Row:
    """A row of the table."""


registry().map_imperatively(Row, table)


def savepoints_and_sessions(dialect):
    engine = create_engine(suite.scheme(dialect), pool_size=2, max_overflow=0)
    meta.drop_all(engine)
    meta.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Row(a=1, b="x"))
        try:
            with session.begin_nested():
                session.add(Row(a=1, b="y"))
        except IntegrityError:
            pass
        session.add(Row(a=2, b="z"))
    with engine.connect() as c:
        same([tuple(r) for r in c.execute(select(table).order_by(table.c.a))], [(1, "x"), (2, "z")])
        c.rollback()
        with suite.elsewhere():
            suite.pids.add(c.execute(text("select pg_backend_pid()")).scalar())
            same(c.execute(select(func.count()).select_from(table)).scalar(), 2)
    with engine.begin() as c:
        c.execute(insert(table), [{"a": i, "b": str(i)} for i in range(10, 3010)])
        got = c.execute(insert(table).returning(table.c.a), [{"a": i, "b": "r"} for i in range(5000, 5100)])
        same(len(got.all()), 100)
    with engine.connect() as c:
        rows = c.execution_options(stream_results=True, yield_per=100).execute(select(table))
        same(sum(1 for _ in rows), 3102)
    pooled(engine)
    engine.dispose()


def pooled(engine):
    for i in range(30):
        with engine.connect() as a, engine.connect() as b:
            same((a.scalar(text("select 1 + :i"), {"i": i}), b.scalar(text("select 2 + :i"), {"i": i})), (1 + i, 2 + i))
            a.execute(text("set local work_mem = '9MB'"))
            a.rollback()
            same(a.scalar(text("show work_mem")), "4MB")


def isolation_levels(dialect):
    engine = create_engine(suite.scheme(dialect), isolation_level="REPEATABLE READ", pool_pre_ping=True)
    with engine.connect() as c:
        same(c.scalar(text("show transaction_isolation")), "repeatable read")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as c:
        for _ in range(4):
            with suite.elsewhere():
                same(c.scalar(text("select 1")), 1)
    with engine.connect() as c:
        same(c.scalar(text("show transaction_isolation")), "repeatable read")
    engine.dispose()


def settings_at_connect(dialect):
    engine = create_engine(suite.scheme(dialect), pool_size=1)

    @event.listens_for(engine, "connect")
    def connected(raw, _):
        cursor = raw.cursor()
        cursor.execute("set search_path to pg_catalog, public")
        raw.commit()
        cursor.close()

    for _ in range(4):
        with suite.elsewhere(), engine.connect() as c:
            same(c.scalar(text("show search_path")), "pg_catalog, public")
    engine.dispose()


async def over_asyncpg():
    engine = create_async_engine(suite.scheme("asyncpg"), pool_size=2)
    async with engine.begin() as c:
        await c.run_sync(meta.drop_all)
        await c.run_sync(meta.create_all)
        await c.execute(insert(table), [{"a": i, "b": "x"} for i in range(100)])
    for i in range(10):
        async with suite.elsewhere(), engine.connect() as c:
            suite.pids.add(await c.scalar(text("select pg_backend_pid()")))
            same(await c.scalar(select(table.c.a).where(table.c.a == i)), i)
            try:
                async with c.begin_nested():
                    await c.execute(insert(table), {"a": 1, "b": "y"})
            except IntegrityError:
                pass
            same(await c.scalar(select(func.count()).select_from(table)), 100)
    async with engine.connect() as c:
        same([r.a async for r in await c.stream(select(table).order_by(table.c.a))], list(range(100)))
    await engine.dispose()


def over(check, dialect):
    def run():
        check(dialect)
    run.__name__ = f"{check.__name__}_over_{dialect}"
    return run


suite.run(*[over(check, dialect) for dialect in ("psycopg", "psycopg2", "pg8000")
            for check in (savepoints_and_sessions, isolation_levels, settings_at_connect)], over_asyncpg)
