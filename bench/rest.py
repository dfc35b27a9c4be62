"""What a cluster costs when nothing happens, and what happens when its machine is busy.

Resident size and processor time are /proc's own figures, of each process alone.

Never tunes anything: the servers run as the stage made them.
"""

import os
import re
import subprocess
import time

import processes
from probe import answer
from processes import field, private, ticks

SETTLE_SECONDS = 10
PGBENCH_SCALE = 10
PGBENCH_CLIENTS = 32
INITIALISE_SECONDS = 600
OVERRUN_SECONDS = 120
REPLAY_SECONDS = 120


def cost(stage, minutes):
    """Resident size and share of one core of each agent, guard, and process beside them."""
    processes.wait_until(stage.is_healthy, 120, "healthy at rest", 0.25)
    time.sleep(SETTLE_SECONDS)
    pids = at_rest(stage)
    before, began = {what: ticks(pid) for what, pid in pids.items()}, time.monotonic()
    time.sleep(minutes * 60)
    seconds = time.monotonic() - began
    hertz = os.sysconf("SC_CLK_TCK")
    return {what: {"resident_kb": field(pid, "status", "VmRSS"), "private_kb": private(pid),
                   "cpu_percent": 100 * (ticks(pid) - before[what]) / hertz / seconds}
            for what, pid in pids.items()}


def at_rest(stage):
    """Name -> pid of every process that is not PostgreSQL's."""
    if stage.product == "patroni":
        return {what if what in ("etcd", "haproxy") else f"agent {what}": process.pid
                for what, process in stage.running.items()}
    found = {}
    for name in stage.nodes:
        node = stage.node(name)
        found[f"agent {name}"], found[f"guard {name}"] = node["agent_pid"], node["guard_pid"]
    return found


def busy(stage, minutes):
    """pgbench with more clients than cores; a term change means that somebody lost patience."""
    run(stage, INITIALISE_SECONDS, "-i", "-q", "-s", str(PGBENCH_SCALE))
    before, began = stage.terms(), time.monotonic()
    seconds = int(minutes * 60)
    done = run(stage, seconds + OVERRUN_SECONDS, "-c", str(PGBENCH_CLIENTS), "-j", "2", "-T", str(seconds))
    tps = re.search(r"^tps = ([0-9.]+)", done.stdout, re.MULTILINE)
    latency = re.search(r"^latency average = ([0-9.]+)", done.stdout, re.MULTILINE)
    processed = re.search(r"transactions actually processed: ([0-9]+)", done.stdout)
    processed = int(processed[1]) if processed else 0
    return {"processed": processed, "lost": max(processed - rows(stage, processed), 0),
            "seconds": time.monotonic() - began, "term_changes": stage.terms() - before,
            "tps": float(tps[1]) if tps else 0.0, "latency_ms": float(latency[1]) if latency else 0.0,
            "exit": done.returncode, "said": done.stderr[-2000:], "history": stage.ask("history"),
            "load": os.getloadavg()[0]}


def rows(stage, wanted):
    """Fewest rows of pgbench's history on any member, once all had time to replay: one a transaction."""
    processes.wait_until(stage.is_healthy, INITIALISE_SECONDS, "healthy after pgbench", 0.25)
    until, fewest = time.monotonic() + REPLAY_SECONDS, -1
    while fewest < wanted and time.monotonic() < until:
        time.sleep(1)
        counts = [answer(stage.server_dsn(name), "SELECT count(*) FROM pgbench_history")[0] for name in stage.nodes]
        fewest = min(counts)
    return fewest


def run(stage, limit, *options):
    """pgbench against the stage's own entry point; runs as whoever we are."""
    command = ["pgbench", *options, stage.dsn]
    return subprocess.run(command, capture_output=True, text=True, timeout=limit, cwd="/")
