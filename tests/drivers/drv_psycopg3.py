"""psycopg 3: sync, async, pipelines, server-side statements, COPY, cancel, notify."""

import asyncio
import threading
import time

import psycopg
import psycopg_pool
from checks import Suite, same

suite = Suite("psycopg3")


def connect(**more):
    return psycopg.connect(suite.url, **more)


def pid(conn):
    got = conn.execute("select pg_backend_pid()").fetchone()[0]
    suite.pids.add(got)
    return got


def parameters_and_types():
    with connect() as c:
        row = c.execute("select %s::int, %s::text, %s::float8, %s::jsonb, %b::bytea, %s::int[]",
                        (1, "ä'\\", 1.5, psycopg.types.json.Json({"a": 1}), b"\0\1", [1, None])).fetchone()
        same(row, (1, "ä'\\", 1.5, {"a": 1}, b"\0\1", [1, None]))
        same(c.execute("select %b::int8", (5,), binary=True).fetchone(), (5,))


def prepared_at_once_survives_a_change_of_server():
    with connect(autocommit=True) as c:
        c.prepare_threshold = 0
        first = pid(c)
        for i in range(5):
            same(c.execute("select %s::int + 1", (i,)).fetchone(), (i + 1,))
        with suite.elsewhere():
            for i in range(5):
                same(c.execute("select %s::int + 1", (i,)).fetchone(), (i + 1,))
            assert suite.mode == "session" or pid(c) != first


def prepared_in_transactions_on_two_servers():
    with connect() as c:
        c.prepare_threshold = 2
        for turn in range(8):
            with suite.elsewhere(), c.transaction():
                pid(c)
                for i in range(4):
                    same(c.execute("select %s::int * 2", (i + turn,)).fetchone(), (2 * (i + turn),))


def prepared_many_are_dropped_again():
    with connect(autocommit=True) as c:
        c.prepare_threshold, c.prepared_max = 0, 10
        for turn in range(2):
            with suite.elsewhere():
                for i in range(40):
                    same(c.execute(f"select {i} + %s::int", (turn,)).fetchone(), (i + turn,))


def deallocate_all_and_on():
    with connect(autocommit=True) as c:
        c.prepare_threshold = 0
        same(c.execute("select %s::int", (1,)).fetchone(), (1,))
        c.execute("deallocate all")
        same(c.execute("select %s::int", (2,)).fetchone(), (2,))
        c.execute("discard all")
        same(c.execute("select %s::int", (3,)).fetchone(), (3,))


def prepared_after_a_change_of_schema():
    with connect(autocommit=True) as c:
        c.prepare_threshold = 0
        c.execute("drop table if exists drv_schema")
        c.execute("create table drv_schema(a int)")
        c.execute("insert into drv_schema values (1)")
        same(c.execute("select * from drv_schema where a > %s", (0,)).fetchone(), (1,))
        c.execute("alter table drv_schema add b int")
        try:
            same(c.execute("select * from drv_schema where a > %s", (0,)).fetchone(), (1, None))
        except psycopg.errors.FeatureNotSupported as e:
            assert "cached plan" in str(e)
        c.execute("drop table drv_schema")


def transaction_blocks_and_savepoints():
    with connect() as c:
        c.execute("create table if not exists drv_t(a int)")
        c.execute("truncate drv_t")
        c.commit()
        with c.transaction():
            c.execute("insert into drv_t values (1)")
            try:
                with c.transaction():
                    c.execute("insert into drv_t values (2)")
                    c.execute("select 1/0")
            except psycopg.errors.DivisionByZero:
                pass
            c.execute("insert into drv_t values (3)")
        same(c.execute("select array_agg(a order by a) from drv_t").fetchone(), ([1, 3],))
        c.rollback()
        try:
            c.execute("select nonsense")
        except psycopg.errors.UndefinedColumn:
            pass
        try:
            c.execute("select 1")
            raise AssertionError("a failed transaction went on")
        except psycopg.errors.InFailedSqlTransaction:
            c.rollback()
        same(c.info.transaction_status, psycopg.pq.TransactionStatus.IDLE)
        with c.transaction(force_rollback=True):
            c.execute("truncate drv_t")
        same(c.execute("select count(*) from drv_t").fetchone(), (2,))


def pipeline():
    with connect(autocommit=True) as c, c.pipeline() as p:
        cursors = [c.execute("select %s::int", (i,)) for i in range(500)]
        p.sync()
        same([x.fetchone()[0] for x in cursors], list(range(500)))


def pipeline_with_an_error_and_on():
    with connect(autocommit=True) as c:
        for turn in range(3):
            with suite.elsewhere():
                try:
                    with c.pipeline():
                        a = c.execute("select 1")
                        c.execute("select 1/0")
                        c.execute("select 2")
                    raise AssertionError("no error")
                except psycopg.errors.DivisionByZero:
                    pass
                same(a.fetchone(), (1,))
                same(c.execute("select %s::int", (turn,)).fetchone(), (turn,))


def pipeline_with_transaction_and_prepared():
    with connect() as c:
        c.prepare_threshold = 0
        for turn in range(4):
            with suite.elsewhere(), c.pipeline():
                with c.transaction():
                    x = [c.execute("select %s::int + 7", (i,)) for i in range(20)]
                same([y.fetchone()[0] for y in x], [i + 7 for i in range(20)])


def copy_in_and_out():
    with connect() as c:
        c.execute("create table if not exists drv_copy(a int, b text)")
        c.execute("truncate drv_copy")
        with c.cursor().copy("copy drv_copy from stdin") as copy:
            for i in range(20000):
                copy.write_row((i, f"row {i}"))
        c.commit()
        for form in ("text", "csv", "binary"):
            with c.cursor().copy(f"copy drv_copy to stdout (format {form})") as copy:
                assert sum(len(b) for b in copy) > 200000
        with c.cursor().copy("copy (select a, b from drv_copy order by a) to stdout") as copy:
            same(sum(1 for _ in copy.rows()), 20000)
        try:
            with c.cursor().copy("copy drv_copy from stdin") as copy:
                copy.write("x\ty\n")
        except psycopg.errors.InvalidTextRepresentation:
            c.rollback()
        try:
            with c.cursor().copy("copy drv_copy from stdin") as copy:
                copy.write_row((1, "x"))
                raise ValueError("enough")
        except ValueError:
            c.rollback()
        same(c.execute("select count(*) from drv_copy").fetchone(), (20000,))


def copy_abandoned():
    with connect(autocommit=True) as c:
        try:
            with c.cursor().copy("copy (select generate_series(1, 1000000)) to stdout") as copy:
                copy.read()
                raise ValueError("enough")
        except ValueError:
            pass
        same(c.execute("select 1").fetchone(), (1,))


def cancel():
    for safe in (False, True):
        with connect(autocommit=True) as c:
            timer = threading.Timer(0.3, c.cancel_safe if safe else c.cancel)
            timer.start()
            begun = time.time()
            try:
                c.execute("select pg_sleep(10)")
                raise AssertionError("not cancelled")
            except psycopg.errors.QueryCanceled:
                assert time.time() - begun < 4
            timer.join()
            same(c.execute("select 1").fetchone(), (1,))


def notify():
    with connect(autocommit=True) as a, connect(autocommit=True) as b:
        a.execute("listen drv_channel")
        b.execute("notify drv_channel, 'hello'")
        got = next(a.notifies(timeout=5))
        same((got.channel, got.payload), ("drv_channel", "hello"))
        a.execute("unlisten *")


def named_cursor():
    with connect() as c:
        with c.cursor("drv_cursor") as cursor:
            cursor.itersize = 100
            cursor.execute("select generate_series(1, %s)", (1000,))
            same(sum(r[0] for r in cursor), 500500)
        with c.cursor("drv_scroll", scrollable=True) as cursor:
            cursor.execute("select generate_series(1, 10)")
            cursor.scroll(5)
            same(cursor.fetchone(), (6,))
            cursor.scroll(0, mode="absolute")
            same(cursor.fetchmany(2), [(1,), (2,)])


def cursor_with_hold():
    with connect() as c:
        cursor = c.cursor("drv_hold", withhold=True)
        cursor.execute("select generate_series(1, 10)")
        c.commit()
        with suite.elsewhere():
            same(cursor.fetchmany(3), [(1,), (2,), (3,)])
        cursor.close()
        c.commit()


def stream():
    with connect() as c:
        same(sum(1 for _ in c.cursor().stream("select generate_series(1, 5000)")), 5000)
        for row in c.cursor().stream("select generate_series(1, 100000)"):
            if row[0] > 10:
                break
        c.rollback()
        same(c.execute("select 1").fetchone(), (1,))


def client_cursor_and_many_statements():
    with connect() as c:
        cursor = psycopg.ClientCursor(c)
        cursor.execute("select %s; select %s", (1, "b"))
        same(cursor.fetchone(), (1,))
        assert cursor.nextset()
        same(cursor.fetchone(), ("b",))
        c.cursor().executemany("select %s::int", [(i,) for i in range(100)])


def settings_are_ones_own():
    with connect(autocommit=True, options="-c work_mem=5MB") as a, connect(autocommit=True, application_name="b") as b:
        a.execute("set search_path = pg_catalog, public")
        a.execute("set timezone = 'Asia/Tokyo'")
        for _ in range(6):
            same(b.execute("show search_path").fetchone(), ('"$user", public',))
            same(b.execute("show work_mem").fetchone(), ("4MB",))
            with suite.elsewhere():
                pid(a)
                same(a.execute("show search_path").fetchone(), ("pg_catalog, public",))
                same(a.execute("show timezone").fetchone(), ("Asia/Tokyo",))
                same(a.execute("show work_mem").fetchone(), ("5MB",))
        same(b.execute("show application_name").fetchone(), ("b",))
        same(a.info.parameter_status("TimeZone"), "Asia/Tokyo")
        a.execute("reset all")
        same(a.execute("show work_mem").fetchone(), ("5MB",))


def two_phase():
    with connect() as c:
        if c.execute("show max_prepared_transactions").fetchone()[0] == "0":
            return
        c.rollback()
        xid = c.xid(1, "drv", "branch")
        c.tpc_begin(xid)
        c.execute("create table drv_2pc(a int)")
        c.tpc_prepare()
        with suite.elsewhere():
            c.tpc_rollback()
        same(c.execute("select to_regclass('drv_2pc')").fetchone(), (None,))


def its_pool():
    with psycopg_pool.ConnectionPool(suite.url, min_size=1, max_size=2, open=True) as pool:
        for i in range(20):
            with pool.connection() as c:
                same(c.execute("select %s::int", (i,)).fetchone(), (i,))


async def asynchronous():
    async with await psycopg.AsyncConnection.connect(suite.url, autocommit=True) as c:
        for i in range(12):
            cursor = await c.execute("select %s::int", (i,))
            same(await cursor.fetchone(), (i,))
        async with c.pipeline():
            cursors = [await c.execute("select %s::int", (i,)) for i in range(50)]
        same([(await x.fetchone())[0] for x in cursors], list(range(50)))
        try:
            await asyncio.wait_for(c.execute("select pg_sleep(10)"), 0.3)
            raise AssertionError("no timeout")
        except asyncio.TimeoutError:
            pass
        cursor = await c.execute("select 5")
        same(await cursor.fetchone(), (5,))


suite.run(parameters_and_types, prepared_at_once_survives_a_change_of_server, prepared_in_transactions_on_two_servers,
          prepared_many_are_dropped_again, deallocate_all_and_on, prepared_after_a_change_of_schema,
          transaction_blocks_and_savepoints, pipeline, pipeline_with_an_error_and_on,
          pipeline_with_transaction_and_prepared, copy_in_and_out, copy_abandoned, cancel, notify, named_cursor,
          cursor_with_hold, stream, client_cursor_and_many_statements, settings_are_ones_own, two_phase, its_pool,
          asynchronous)
