"""asyncpg: its statement cache, transactions, cursors, COPY, cancel by timeout, LISTEN, its pool."""

import asyncio
import io

import asyncpg
from checks import Suite, same

suite = Suite("asyncpg")


async def connect(**more):
    return await asyncpg.connect(suite.url, **more)


async def pid(c):
    got = await c.fetchval("select pg_backend_pid()")
    suite.pids.add(got)
    return got


async def values_and_types():
    c = await connect()
    row = await c.fetchrow("select $1::int, $2::text, $3::int[], $4::numeric, $5::bytea, null", 1, "ä", [1, 2], 5, b"\0")
    same(tuple(row), (1, "ä", [1, 2], 5, b"\0", None))
    same(await c.fetchval("select $1::jsonb", '{"a": 1}'), '{"a": 1}')
    await c.execute("create type drv_kind as enum ('x', 'y')")
    same(await c.fetchval("select $1::drv_kind", "y"), "y")
    same([tuple(r) for r in await c.fetchval("select array[(1,'x'::drv_kind)]")], [(1, "x")])
    await c.execute("drop type drv_kind")
    await c.close()


async def cached_statements_on_two_servers():
    c = await connect()
    for i in range(10):
        async with suite.elsewhere():
            await pid(c)
            same(await c.fetchval("select $1::int + 1", i), i + 1)
    await c.close()


async def small_cache():
    c = await connect(statement_cache_size=3)
    for i in range(40):
        async with suite.elsewhere() if i % 8 == 0 else asyncio.Lock():
            same(await c.fetchval(f"select {i % 7} + $1::int", i), i % 7 + i)
    await c.close()


async def no_cache():
    c = await connect(statement_cache_size=0)
    for i in range(10):
        async with suite.elsewhere():
            same(await c.fetchval("select $1::int", i), i)
    await c.close()


async def prepared_by_hand():
    c = await connect()
    statement = await c.prepare("select $1::text || 'x' as y")
    same([p.name for p in statement.get_parameters()], ["text"])
    same([a.name for a in statement.get_attributes()], ["y"])
    first = await pid(c)
    async with suite.elsewhere():
        same(await statement.fetchval("a"), "ax")
        assert suite.mode == "session" or await pid(c) != first
        assert (await statement.explain("q"))[0]["Plan"]
    await c.close()


async def transactions():
    c = await connect()
    await c.execute("create table if not exists drv_apg(a int)")
    await c.execute("truncate drv_apg")
    async with c.transaction():
        await c.execute("insert into drv_apg values (1)")
        try:
            async with c.transaction():
                await c.execute("insert into drv_apg values (2)")
                await c.fetch("select 1/0")
        except asyncpg.DivisionByZeroError:
            pass
        await c.execute("insert into drv_apg values (3)")
    same(await c.fetchval("select array_agg(a order by a) from drv_apg"), [1, 3])
    async with c.transaction(isolation="serializable", readonly=True, deferrable=True):
        same(await c.fetchval("show transaction_isolation"), "serializable")
    same(await c.fetchval("show transaction_isolation"), "read committed")
    try:
        async with c.transaction():
            await c.fetch("select nonsense")
    except asyncpg.UndefinedColumnError:
        pass
    same(await c.fetchval("select 1"), 1)
    await c.close()


async def many_rows_by_one_statement():
    c = await connect()
    await c.execute("create table if not exists drv_apg2(a int unique)")
    await c.execute("truncate drv_apg2")
    await c.executemany("insert into drv_apg2 values ($1)", [(i,) for i in range(5000)])
    same(await c.fetchval("select count(*) from drv_apg2"), 5000)
    try:
        await c.executemany("insert into drv_apg2 values ($1)", [(10000,), (1,), (10001,)])
        raise AssertionError("not unique any more")
    except asyncpg.UniqueViolationError:
        pass
    same(await c.fetchval("select count(*) from drv_apg2"), 5000)
    await c.close()


async def cursors():
    c = await connect()
    async with c.transaction():
        same([r[0] async for r in c.cursor("select generate_series(1, 300)", prefetch=50)], list(range(1, 301)))
        cursor = await c.cursor("select generate_series(1, 10)")
        await cursor.forward(3)
        same([r[0] for r in await cursor.fetch(2)], [4, 5])
    await c.close()


async def copy():
    c = await connect()
    await c.execute("create table if not exists drv_apg3(a int, b text)")
    await c.execute("truncate drv_apg3")
    await c.copy_records_to_table("drv_apg3", records=[(i, str(i)) for i in range(5000)])
    out = io.BytesIO()
    same(await c.copy_from_query("select * from drv_apg3 where a < $1", 10, output=out), "COPY 10")
    await c.copy_to_table("drv_apg3", source=io.BytesIO(b"1\tx\n2\ty\n"))
    try:
        await c.copy_to_table("drv_apg3", source=io.BytesIO(b"nonsense\n"))
        raise AssertionError("no error")
    except asyncpg.PostgresError:
        pass
    same(await c.fetchval("select count(*) from drv_apg3"), 5002)
    await c.close()


async def cancel_by_timeout():
    c = await connect()
    for i in range(5):
        try:
            await c.fetch("select pg_sleep(10)", timeout=0.1)
            raise AssertionError("no timeout")
        except asyncio.TimeoutError:
            pass
        same(await c.fetchval("select $1::int", i), i)
    await c.close()


async def listen():
    a, b = await connect(), await connect()
    heard = asyncio.Queue()
    await a.add_listener("drv_apg", lambda *args: heard.put_nowait(args[3]))
    await b.execute("notify drv_apg, 'hello'")
    same(await asyncio.wait_for(heard.get(), 5), "hello")
    await a.remove_listener("drv_apg", lambda *args: None)
    await a.close()
    await b.close()


async def settings_are_ones_own():
    a, b = await connect(server_settings={"work_mem": "5MB", "application_name": "a"}), await connect()
    await a.execute("set search_path = pg_catalog")
    for _ in range(5):
        same(await b.fetchval("show work_mem"), "4MB")
        same(await b.fetchval("show search_path"), '"$user", public')
        async with suite.elsewhere():
            same(await a.fetchval("show work_mem"), "5MB")
            same(await a.fetchval("show search_path"), "pg_catalog")
            same(await a.fetchval("show application_name"), "a")
    await a.close()
    await b.close()


async def reset_keeps_settings_of_startup():
    a = await connect(server_settings={"work_mem": "5MB", "search_path": "pg_catalog"})
    await a.execute("set work_mem = '6MB'")
    await a.reset()
    same(await a.fetchval("show work_mem"), "5MB")
    same(await a.fetchval("show search_path"), "pg_catalog")
    async with suite.elsewhere():
        same(await a.fetchval("show work_mem"), "5MB")
    await a.close()


async def its_pool():
    async with asyncpg.create_pool(suite.url, min_size=1, max_size=2, server_settings={"work_mem": "7MB"}) as pool:
        async def one(i):
            async with pool.acquire() as c:
                suite.pids.add(await c.fetchval("select pg_backend_pid()"))
                return await c.fetchval("select $1::int", i), await c.fetchval("show work_mem")
        same(await asyncio.gather(*(one(i) for i in range(50))), [(i, "7MB") for i in range(50)])


suite.run(values_and_types, cached_statements_on_two_servers, small_cache, no_cache, prepared_by_hand, transactions,
          many_rows_by_one_statement, cursors, copy, cancel_by_timeout, listen, settings_are_ones_own,
          reset_keeps_settings_of_startup, its_pool)
