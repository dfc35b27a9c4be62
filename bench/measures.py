"""What is measured of one contender in one round: figures of pgbench, and of /proc.

A measure gets a contender that is up and gives figures by name; processor time
is the contender's own, of all its threads, without that of client and server.

Never compares: ratios are made of two rounds of the same number, in the table.
"""

import glob
import os
import re
import subprocess
import tempfile
import time

import processes
import wire

CLIENTS = 16
PGBENCH = ("pgbench", "-n", "-h", "127.0.0.1", "-U", wire.USER)
OVERRUN_SECONDS = 300
WARM_UP_SECONDS = 1
CROWD_WARM_UP_SECONDS = 2
CROWD_THREADS = 2
CROWD_SECONDS_MAX = 120
BULK_SQL = "SELECT * FROM pgbench_accounts"
BULK_BYTES_MIN = 50_000_000
BULK_QUERIES = 3
SETTLE_SECONDS = 1
GONE_SECONDS = 60
TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
AUTOCOMMIT = r"""\set aid random(1, 100000 * :scale)
\set delta random(-5000, 5000)
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
"""


class Measure:
    """A name, what it is in words, its figures (name -> heading, decimals), and how it is taken.

    `tls` are the ways to begin it that will do, if it needs any.
    """

    def __init__(self, name, title, figures, take, tls=(), fresh=False, writes=False):
        self.name, self.title, self.figures, self.take = name, title, figures, take
        self.tls, self.fresh, self.writes = tls, fresh, writes

    def leaves_out(self, contender):
        """Why this contender has no such figure; empty if it has."""
        if contender.writes_only and not self.writes:
            return "differs only in writes"
        if self.fresh and contender.name == "direct":
            return "is no proxy"
        return "has no such TLS" if self.tls and contender.tls not in self.tls else ""


def pgbench(contender, seconds, *options, tls=False):
    """Runs pgbench against a contender: transactions, TPS, average latency."""
    command = [*PGBENCH, "-p", str(contender.tls_port if tls else contender.port), "-T", str(seconds), *options,
               "postgres"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + OVERRUN_SECONDS, cwd="/",
                          env=environment(tls))
    if done.returncode != 0 or "aborted" in done.stderr:
        raise RuntimeError(f"pgbench: {done.stderr.strip()[-300:]}")
    found = lambda pattern: float(re.search(pattern, done.stdout, re.MULTILINE)[1])
    return {"transactions": int(found(r"transactions actually processed: ([0-9]+)")),
            "tps": found(r"^tps = ([0-9.]+)"), "latency_ms": found(r"^latency average = ([0-9.]+)")}


def environment(tls):
    """Left to itself, libpq takes TLS from whoever offers it, and the contenders would not be alike."""
    return os.environ | {"PGSSLMODE": "require" if tls else "disable"}


def processor_seconds(contender):
    return sum(processes.ticks(pid) for pid in contender.pids()) * TICK_SECONDS


def load(*options, tls=False):
    """A measure of pgbench with these options."""
    def take(contender, size):
        pgbench(contender, WARM_UP_SECONDS, *options, tls=tls)
        before = processor_seconds(contender)
        figures = pgbench(contender, size.seconds, *options, tls=tls)
        if contender.pids():
            figures["cpu_us"] = (processor_seconds(contender) - before) * 1e6 / figures["transactions"]
        return figures
    return take


def autocommit(contender, size):
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(AUTOCOMMIT)
        script.flush()
        return load("-c", str(CLIENTS), "-j", "1", "-f", script.name)(contender, size)


def bulk(contender, _size):
    """Big results, read and thrown away."""
    client = wire.connect(contender.port)
    wire.query(client, BULK_SQL)
    before, began = processor_seconds(contender), time.monotonic()
    count = sum(wire.query(client, BULK_SQL) for _ in range(BULK_QUERIES))
    seconds, cost = time.monotonic() - began, processor_seconds(contender) - before
    wire.close(client)
    if count < BULK_QUERIES * BULK_BYTES_MIN:
        raise RuntimeError(f"only {count} bytes came")
    figures = {"mb": count / 1e6, "mb_per_s": count / 1e6 / seconds}
    return figures | ({"cpu_us_per_mb": cost * 1e6 / (count / 1e6)} if contender.pids() else {})


def idle(tls):
    """Memory that clients cost who do nothing: first never, then after one query each."""
    def take(contender, size):
        port, how = (contender.tls_port, contender.tls) if tls else (contender.port, "")
        first = wire.connect(port, how)  # what the first session costs once is no client's
        wire.query(first, "SELECT 1")
        before, clients = resident_kb(contender), []
        try:
            clients += (wire.connect(port, how) for _ in range(size.idle))
            time.sleep(SETTLE_SECONDS)
            connected = resident_kb(contender)
            for client in clients:
                wire.query(client, "SELECT 1")
            time.sleep(SETTLE_SECONDS)
            used = resident_kb(contender)
        finally:
            for client in (first, *clients):
                wire.close(client)
        return {"kb": (connected - before) / size.idle, "kb_used": (used - before) / size.idle,
                "resident_mb": used / 1e3}
    return take


def resident_kb(contender):
    return sum(processes.field(pid, "status", "VmRSS") for pid in contender.pids())


def crowd(contender, size):
    """Many more clients than the server could serve at once: how long the unlucky ones wait.

    pgbench's own clock runs while it connects, which can take longer than all the
    rest; so it is watched through its log, and ended.
    """
    with tempfile.TemporaryDirectory(prefix="tanist-bench-crowd-") as folder:
        command = [*PGBENCH, "-p", str(contender.port), "-T", str(CROWD_SECONDS_MAX), "-S", "-c", str(size.clients),
                   "-j", str(CROWD_THREADS), "-l", "postgres"]
        said, logs = os.path.join(folder, "said"), lambda: glob.glob(os.path.join(folder, "pgbench_log.*"))
        process = processes.start(command, said, cwd=folder, env=environment(False))
        try:
            processes.wait_until(lambda: process.poll() is not None or any(map(os.path.getsize, logs())),
                                 CROWD_SECONDS_MAX, "the first transactions of the crowd")
            time.sleep(CROWD_WARM_UP_SECONDS)
            before, began = processor_seconds(contender), time.time()
            time.sleep(size.seconds)
            cost, ended = processor_seconds(contender) - before, time.time()
            time.sleep(SETTLE_SECONDS)  # pgbench writes its log in blocks
            if process.poll() is not None:
                with open(said) as file:
                    raise RuntimeError(f"pgbench: {file.read().strip()[-300:]}")
        finally:
            processes.end(process)
        took = latencies(logs(), began, ended)
    figures = {"tps": len(took) / (ended - began), **percentiles(took)}
    return figures | ({"cpu_us": cost * 1e6 / len(took)} if contender.pids() else {})


def latencies(paths, began, ended):
    """Microseconds of all transactions that pgbench saw end in that time, sorted."""
    took = []
    for path in paths:
        with open(path) as file:
            lines = (line.split() for line in file if line.endswith("\n"))
            took += (int(f[2]) for f in lines if began <= int(f[4]) + int(f[5]) / 1e6 < ended)
    if not took:
        raise RuntimeError("no transaction ended")
    return sorted(took)


def percentiles(took):
    at = lambda share: took[int(share * (len(took) - 1))] / 1e3
    return {"p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1)}


def until_alone(server, sessions):
    """Waits until the sessions of a measure have gone, or the next would pay for their end."""
    processes.wait_until(lambda: server.backends() <= sessions, GONE_SECONDS, "server without old sessions")


CPU = {"cpu_us": ("µs CPU per transaction", 1), "tps": ("TPS", 0)}
SELECT = ("-S", "-j", "1")
ALL = {m.name: m for m in (
    Measure("simple", f"`pgbench -S -M simple`, {CLIENTS} clients", CPU,
            load(*SELECT, "-M", "simple", "-c", str(CLIENTS))),
    Measure("prepared", f"`pgbench -S -M prepared`, {CLIENTS} clients", CPU,
            load(*SELECT, "-M", "prepared", "-c", str(CLIENTS))),
    Measure("tls", f"`pgbench -S -M simple` with TLS, {CLIENTS} clients", CPU,
            load(*SELECT, "-M", "simple", "-c", str(CLIENTS), tls=True), tls=("asked",)),
    Measure("one", "`pgbench -S -M simple`, one client",
            {"cpu_us": CPU["cpu_us"], "latency_ms": ("average latency, ms", 3)}, load(*SELECT, "-M", "simple", "-c", "1")),
    Measure("bulk", "A million rows, read by one client",
            {"cpu_us_per_mb": ("µs CPU per MB", 0), "mb_per_s": ("MB/s", 0)}, bulk),
    Measure("idle", "Memory of an idle client",
            {"kb": ("kB, connected only", 2), "kb_used": ("kB, after one query", 2)}, idle(False), fresh=True),
    Measure("idle-tls", "Memory of an idle client with TLS",
            {"kb": ("kB, connected only", 2), "kb_used": ("kB, after one query", 2)}, idle(True),
            tls=("asked", "direct"), fresh=True),
    Measure("crowd", "`pgbench -S`, a crowd of clients",
            {"p50_ms": ("median latency, ms", 0), "p99_ms": ("p99, ms", 0), "tps": ("TPS", 0),
             "cpu_us": CPU["cpu_us"]}, crowd),
    Measure("tpcb", f"`pgbench -b tpcb-like -M simple`, {CLIENTS} clients", CPU,
            load("-b", "tpcb-like", "-M", "simple", "-c", str(CLIENTS), "-j", "1"), writes=True),
    Measure("autocommit", f"One `UPDATE` a transaction, without `BEGIN`, {CLIENTS} clients", CPU, autocommit,
            writes=True),
)}
