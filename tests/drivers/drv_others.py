"""psycopg2 and pg8000."""

import io
import threading

import pg8000.dbapi
import pg8000.native
import psycopg2
import psycopg2.extensions
import psycopg2.extras
from checks import Suite, same
from psycopg.conninfo import conninfo_to_dict

suite = Suite("psycopg2, pg8000")


def psycopg2_blocks_and_values():
    c = psycopg2.connect(suite.url)
    with c, c.cursor() as cursor:
        cursor.execute("select %s, %s, %s", (1, "ä'", [1, 2]))
        same(cursor.fetchone(), (1, "ä'", [1, 2]))
    for i in range(6):
        with suite.elsewhere(), c, c.cursor() as cursor:
            cursor.execute("select pg_backend_pid(), %s", (i,))
            row = cursor.fetchone()
            suite.pids.add(row[0])
            same(row[1], i)
    try:
        with c, c.cursor() as cursor:
            cursor.execute("select 1/0")
    except psycopg2.errors.DivisionByZero:
        pass
    with c, c.cursor() as cursor:
        psycopg2.extras.execute_values(cursor, "select * from (values %s) v(a)", [(i,) for i in range(300)], page_size=300)
        same(len(cursor.fetchall()), 300)
    c.close()


def psycopg2_named_cursor_and_hold():
    c = psycopg2.connect(suite.url)
    with c.cursor("drv2") as cursor:
        cursor.itersize = 50
        cursor.execute("select generate_series(1, 500)")
        same(sum(r[0] for r in cursor), 125250)
    c.commit()
    cursor = c.cursor("drv2h", withhold=True)
    cursor.execute("select generate_series(1, 10)")
    c.commit()
    with suite.elsewhere():
        same(cursor.fetchall(), [(i,) for i in range(1, 11)])
    cursor.close()
    c.close()


def psycopg2_copy():
    c = psycopg2.connect(suite.url)
    with c, c.cursor() as cursor:
        cursor.execute("create temp table drv2c(a int, b text)")
        cursor.copy_expert("copy drv2c from stdin", io.StringIO("".join(f"{i}\tx\n" for i in range(5000))))
        out = io.StringIO()
        cursor.copy_expert("copy drv2c to stdout", out)
        same(out.getvalue().count("\n"), 5000)
    try:
        with c, c.cursor() as cursor:
            cursor.copy_expert("copy drv2c from stdin", io.StringIO("x\n"))
    except psycopg2.Error:
        pass
    with c, c.cursor() as cursor:
        cursor.execute("select count(*) from drv2c")
        same(cursor.fetchone(), (5000,))
    c.close()


def psycopg2_cancel_and_notify():
    c = psycopg2.connect(suite.url)
    c.autocommit = True
    timer = threading.Timer(0.3, c.cancel)
    timer.start()
    cursor = c.cursor()
    try:
        cursor.execute("select pg_sleep(10)")
        raise AssertionError("not cancelled")
    except psycopg2.errors.QueryCanceled:
        pass
    cursor.execute("listen drv2")
    other = psycopg2.connect(suite.url)
    other.autocommit = True
    other.cursor().execute("notify drv2, 'x'")
    for _ in range(50):
        cursor.execute("select pg_sleep(0.02)")
        c.poll()
        if c.notifies:
            break
    same(c.notifies[0].payload, "x")
    c.close()
    other.close()


def psycopg2_settings():
    a = psycopg2.connect(suite.url, options="-c work_mem=5MB")
    b = psycopg2.connect(suite.url)
    a.set_client_encoding("LATIN1")
    a.set_session(isolation_level="SERIALIZABLE", readonly=True)
    for _ in range(3):
        for c, want in ((a, ("5MB", "LATIN1", "serializable", "on")), (b, ("4MB", "UTF8", "read committed", "off"))):
            with suite.elsewhere(), c, c.cursor() as cursor:
                cursor.execute("select current_setting('work_mem'), current_setting('client_encoding'),"
                               " current_setting('transaction_isolation'), current_setting('transaction_read_only')")
                same(cursor.fetchone(), want)
    a.close()
    b.close()


def named(url):
    parts = conninfo_to_dict(url)
    return {"user": parts.get("user"), "host": parts.get("host"), "port": int(parts.get("port") or 5432),
            "database": parts.get("dbname"), "password": parts.get("password")}


def pg8000_native():
    c = pg8000.native.Connection(**named(suite.url))
    same(c.run("select :a::int + 1, :b", a=1, b="ä"), [[2, "ä"]])
    statement = c.prepare("select :v::int * 3")
    for i in range(6):
        with suite.elsewhere():
            same(statement.run(v=i), [[3 * i]])
            suite.pids.add(c.run("select pg_backend_pid()")[0][0])
    statement.close()
    c.run("start transaction")
    try:
        c.run("select 1/0")
    except pg8000.native.DatabaseError:
        pass
    c.run("rollback")
    out = io.BytesIO()
    c.run("copy (select 1) to stdout", stream=out)
    same(out.getvalue(), b"1\n")
    c.run("create temp table drv8(a int)")
    c.run("copy drv8 from stdin", stream=io.BytesIO(b"1\n2\n"))
    same(c.run("select count(*) from drv8"), [[2]])
    c.close()


def pg8000_dbapi():
    c = pg8000.dbapi.connect(**named(suite.url), application_name="drv8")
    for i in range(6):
        with suite.elsewhere():
            cursor = c.cursor()
            cursor.execute("select %s::int, current_setting('application_name')", (i,))
            same(list(cursor.fetchone()), [i, "drv8"])
            c.commit()
    c.close()


suite.run(psycopg2_blocks_and_values, psycopg2_named_cursor_and_hold, psycopg2_copy, psycopg2_cancel_and_notify,
          psycopg2_settings, pg8000_native, pg8000_dbapi)
