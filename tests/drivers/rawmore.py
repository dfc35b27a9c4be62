"""Cancels, half-open sockets, slow readers and crowds: what one script can't say."""

import socket
import struct
import threading
import time

from rawwire import CD, CDONE, H, P, B, Q, S, TERM, X, Raw, connect

IDLE_CLIENTS = 2000
SLOW_ROWS = 300_000


def value(messages):
    rows = [m[1] for m in messages if m[0] == "D"]
    return rows[0][6:].decode() if rows else None


def ask(raw, text, patience=10.0):
    raw.send(Q(text))
    return raw.until_ready(patience)


def cancel(target, key):
    raw = Raw(target)
    raw.send(struct.pack("!ii", 8 + len(key), 80877102) + key)
    raw.fill(2.0)
    raw.close()


def code(messages):
    fields = [f for m in messages if m[0] == "E" for f in m[1]]
    return next((f[1:] for f in fields if f[0] == "C"), None)


def cancels(proxy, report):
    raw = connect(proxy)
    raw.send(Q("select pg_sleep(10)"))
    time.sleep(0.2)
    begun = time.time()
    cancel(proxy, raw.key)
    got = raw.until_ready()
    report.check(f"{proxy[1]} cancel: a running query", code(got) == "57014" and time.time() - begun < 3, f"    {got}")
    cancel(proxy, raw.key)
    time.sleep(0.1)
    got = ask(raw, "select 7")
    report.check(f"{proxy[1]} cancel: while idle does nothing", value(got) == "7", f"    {got}")
    wrong = raw.key[:4] + bytes(b ^ 1 for b in raw.key[4:])
    raw.send(Q("select 8 from pg_sleep(0.5)"))
    time.sleep(0.1)
    cancel(proxy, wrong)
    got = raw.until_ready()
    report.check(f"{proxy[1]} cancel: with a wrong key does nothing", value(got) == "8", f"    {got}")
    raw.send(Q("begin") + Q("select pg_sleep(10)") + Q("select 1") + Q("rollback") + Q("select 9"))
    time.sleep(0.2)
    cancel(proxy, raw.key)
    got = raw.listen(10, quiet=0.3)
    codes = [m[0] for m in got]
    report.check(f"{proxy[1]} cancel: in a pipelined block", codes.count("Z") == 5 and codes.count("E") == 2, f"    {got}")
    raw.close()


def late_cancels(proxy, report):
    """Once the socket of a cancel was closed, PostgreSQL has sent it: what is asked then is never cancelled."""
    raw, wrong = connect(proxy), []
    for i in range(150):
        raw.send(Q("select pg_sleep(0.002)"))
        time.sleep((i % 10) * 0.0004)
        cancel(proxy, raw.key)
        raw.until_ready()
        got = ask(raw, f"select {i} from pg_sleep(0.003)")
        if value(got) != str(i):
            wrong.append((i, got))
    report.check(f"{proxy[1]} cancel: late ones never meet the next request", not wrong, f"    {wrong[:2]}")
    raw.close()


def leaves(direct, proxy, report):
    """Clients that say good-bye behind their requests: PostgreSQL does all of them first."""
    insert = "insert into raw_w select 1 from pg_sleep(0.1)"
    cases = {
        "a query": (Q(insert), "1"),
        "three queries": (Q(insert) * 3, "3"),
        "a batch": (P("", insert) + B() + X() + S, "1"),
        "an open batch": (P("", insert) + B() + X(), "0"),
        "an open block": (Q("begin") + Q(insert), "0"),
        "a block": (Q("begin") + Q(insert) + Q("commit"), "1"),
        "an open COPY": (Q("copy raw_w from stdin") + CD("1\n"), "0"),
        "a COPY": (Q("copy raw_w from stdin") + CD("1\n") + CDONE, "1"),
        "rows that nobody reads": (Q("select repeat('x', 1000) from generate_series(1, 20000)") + Q(insert), None),
    }
    watch = connect(direct)
    for name, (bytes_, want) in cases.items():
        ask(watch, "truncate raw_w")
        raw = connect(proxy)
        raw.send(bytes_ + TERM)
        raw.listen(quiet=0.2)
        raw.close()
        time.sleep(0.5)
        got = value(ask(watch, "select count(*) from raw_w"))
        report.check(f"{proxy[1]} leaves: good-bye behind {name}", got == want or want is None, f"    rows: {got}")
    watch.close()


def abandoned(direct, proxy, report):
    """Clients that vanish in every state leave nothing to the next: no transaction, no COPY, no rows."""
    states = {
        "in a block": Q("begin; insert into raw_w values (1)"),
        "in a failed block": Q("begin; select 1/0"),
        "in COPY in": Q("copy raw_w from stdin") + CD("1\n"),
        "in COPY out": Q("copy (select repeat('x',1000) from generate_series(1,100000)) to stdout"),
        "in rows": Q("select repeat('x',1000) from generate_series(1,100000)"),
        "in an open batch": P("", "insert into raw_w values (1)") + B() + X() + H,
        "in a failed batch without a Sync": P("", "select nonsense") + B() + X() + H,
        "in a failed batch with a query behind": P("", "select nonsense") + B() + X() + Q("select 2"),
        "in half a message": Q("select 1")[:7],
        "in half a parse": P("a", "select 1")[:9],
        "in half a row of COPY": Q("copy raw_w from stdin") + CD("1\n2\n")[:6],
        "with settings": Q("set work_mem='9MB'; set application_name='left'; set my.left='1'"),
        "with a temporary table": Q("create temp table raw_left(a int)"),
        "with a lock": Q("select pg_advisory_lock(77)"),
        "with a listen": Q("listen raw_left"),
        "with SQL's prepare": Q("prepare raw_left as select 1"),
        "with a cursor": Q("begin; declare raw_left cursor with hold for select 1; commit"),
        "with a role": Q("set session authorization raw_role"),
        "with settings of values": P("", "select set_config($1, $2, false)") + B(values=[b"my.left", b"1"]) + X() + S,
        "with settings in quotes": Q("set \"my\".\"left\" = '1'"),
        "with settings by a block": Q("do $$begin perform set_config('work_mem', '9MB', false); end$$"),
        "with a temporary table by a block": Q("do $$begin execute 'create temp table raw_left(a int)'; end$$"),
        "with a statement by a block": Q("do $$begin execute 'prepare raw_left as select 1'; end$$"),
    }
    watch = connect(direct)
    ask(watch, "truncate raw_w")
    for name, bytes_ in states.items():
        for _ in range(3):
            raw = connect(proxy)
            raw.send(bytes_)
            raw.fill(0.1)
            time.sleep(0.02)
            raw.close()
        left = []
        for _ in range(3):
            time.sleep(0.02)
            raw = connect(proxy)
            left += remains(raw)
            raw.close()
        report.check(f"{proxy[1]} abandoned {name}", not left, f"    {left}")
    rows = value(ask(watch, "select count(*) from raw_w"))
    locks = value(ask(watch, "select count(*) from pg_locks where locktype='advisory' and objid=77"))
    report.check(f"{proxy[1]} abandoned: nothing was written, no lock is held", (rows, locks) == ("0", "0"), f"    {rows} {locks}")
    watch.close()


def remains(raw):
    """What is there that a fresh session has not."""
    fresh = {
        "select 41+1": "42",
        "show work_mem": "4MB",
        "select current_setting('my.left', true)": None,
        "select count(*) from pg_prepared_statements where name='raw_left'": "0",
        "select count(*) from pg_cursors": "0",
        "select count(*) from pg_listening_channels()": "0",
        "select to_regclass('pg_temp.raw_left')": None,
        "select current_user": "postgres",
        "select session_user": "postgres",
    }
    out = []
    for text, want in fresh.items():
        messages = ask(raw, text, 2.0)
        got = value(messages)
        if (got or None) != want or messages[-1:] != [("Z", b"I")]:
            out.append((text, got, messages[-3:]))
    return out


def two_clients(proxy, report):
    """Two at once, each with its own settings, statements under the same name, and blocks."""
    a, b = connect(proxy, application_name="a"), connect(proxy, application_name="b")
    for raw, text in ((a, "select 'of a'"), (b, "select 'of b'")):
        raw.send(P("s", text) + S)
        raw.until_ready()
    wrong = []
    for turn in range(20):
        for raw, mine in ((a, "a"), (b, "b")):
            if value(ask(raw, "show application_name")) != mine:
                wrong.append((turn, mine, "application_name"))
            raw.send(B("", "s") + X() + S)
            if value(raw.until_ready()) != f"of {mine}":
                wrong.append((turn, mine, "statement"))
            ask(raw, f"set my.turn = '{mine}{turn}'")
        for raw, mine in ((a, "a"), (b, "b")):
            if value(ask(raw, "show my.turn")) != f"{mine}{turn}":
                wrong.append((turn, mine, "my.turn"))
    report.check(f"{proxy[1]} two clients: each has its own", not wrong, f"    {wrong[:5]}")
    a.close()
    b.close()


def is_shared(proxy):
    """Whether many clients share one server: not in session mode."""
    a, b = connect(proxy), connect(proxy)
    ask(a, "select 1")
    b.send(Q("select 1"))
    got = b.until_ready(1.0)
    ask(a, "select 1")
    c = connect(proxy)
    pids = {value(ask(x, "select pg_backend_pid()", 0.7)) for x in (a, c)} if got else set()
    for raw in (a, b, c):
        raw.close()
    time.sleep(0.1)
    return got and len(pids) == 1


def checks(args, report):
    if args.only and args.only not in "more":
        return
    for proxy in [args.direct, *args.proxy]:
        cancels(proxy, report)
        late_cancels(proxy, report)
        leaves(args.direct, proxy, report)
        abandoned(args.direct, proxy, report)
        if proxy == args.direct or is_shared(proxy):
            two_clients(proxy, report)


def idle_crowd(proxy, report):
    """Many that are logged in and say nothing; the rest must not feel them."""
    crowd, refused = [], 0
    for _ in range(IDLE_CLIENTS):
        raw = connect(proxy)
        refused += not any(m[0] == "Z" for m in raw.hello)
        crowd.append(raw)
    got = value(ask(crowd[-1], "select 5"))
    each = sum(value(ask(raw, "select 6")) == "6" for raw in crowd)
    report.check(f"{proxy[1]} {IDLE_CLIENTS} idle clients", (refused, got, each) == (0, "5", IDLE_CLIENTS), f"    refused {refused}, {got}, {each}")
    for raw in crowd:
        raw.close()


def slow_reader(proxy, report):
    """It gets all its rows, in order, while others are served."""
    slow, other = connect(proxy), connect(proxy)
    slow.send(Q(f"select g, repeat('x', 200) from generate_series(1,{SLOW_ROWS}) g"))
    time.sleep(0.5)
    begun = time.time()
    got = value(ask(other, "select 3"))
    quick = time.time() - begun < 1
    rows, turn, over, end = 0, 0, False, time.time() + 60
    while not over and not slow.ended and time.time() < end:
        slow.fill(1.0)
        came = slow.take()
        rows += sum(m[0] == "D" for m in came)
        over = any(m[0] == "Z" for m in came)
        turn += 1
        if turn % 200 == 0:
            time.sleep(0.01)
    report.check(f"{proxy[1]} slow reader", (got, quick, rows) == ("3", True, SLOW_ROWS), f"    {got} {quick} {rows}")
    slow.close()
    other.close()


def slow_writer(proxy, report):
    """A client that sends much and reads nothing for a while gets all its answers."""
    raw = connect(proxy)
    text = Q("select repeat('r', 1000)") * 5000
    sender = threading.Thread(target=raw.send, args=(text,))
    raw.socket.settimeout(60)
    sender.start()
    time.sleep(1.0)
    done, end = 0, time.time() + 60
    while done < 5000 and time.time() < end and not raw.ended:
        raw.fill(0.5)
        done += sum(m[0] == "Z" for m in raw.take())
    sender.join()
    report.check(f"{proxy[1]} sends before it reads", done == 5000, f"    {done} of 5000")
    raw.close()


def cancel_storm(proxy, report):
    """Cancels without end: every query ends well or as cancelled, and a neighbour never feels one."""
    victim, neighbour = connect(proxy), connect(proxy)
    stop, wrong, seen = threading.Event(), [], {"57014": 0, None: 0}

    def fire():
        while not stop.is_set():
            cancel(proxy, victim.key)

    def live():
        while not stop.is_set():
            got = ask(neighbour, "select 11 from pg_sleep(0.002)")
            if value(got) != "11":
                wrong.append(("neighbour", got))

    threads = [threading.Thread(target=fire) for _ in range(4)] + [threading.Thread(target=live)]
    for thread in threads:
        thread.start()
    end, n = time.time() + 8, 0
    while time.time() < end:
        n += 1
        got = ask(victim, f"select {n} from pg_sleep(0.005)")
        seen[code(got)] = seen.get(code(got), 0) + 1
        if code(got) is None and value(got) != str(n):
            wrong.append(("victim", n, got))
    stop.set()
    for thread in threads:
        thread.join()
    good = not wrong and seen["57014"] > 0 and set(seen) <= {"57014", None}
    report.check(f"{proxy[1]} cancel storm", good, f"    {seen} {wrong[:3]}")
    victim.close()
    neighbour.close()


def storms(args, report):
    for proxy in args.proxy:
        if is_shared(proxy):
            idle_crowd(proxy, report)
            slow_writer(proxy, report)
        probe = connect(proxy), connect(proxy)
        ask(probe[0], "select 1")
        both = ask(probe[1], "select 1", 1.0)
        for raw in probe:
            raw.close()
        if both:
            slow_reader_if_room(proxy, report)


def slow_reader_if_room(proxy, report):
    """These need two servers at once."""
    a, b = connect(proxy), connect(proxy)
    ask(a, "begin")
    room = ask(b, "select 1", 1.0)
    a.close()
    b.close()
    time.sleep(0.2)
    if room:
        slow_reader(proxy, report)
        cancel_storm(proxy, report)
