"""Measures proxies side by side: `bench/proxy`, with these options.

Every round plays each measure on every contender, one after the other and each
round in another order; what the machine does meanwhile hits all alike, and only
ratios within a round are compared. Raw results go to target/bench/proxy.json,
the table to docs/proxy-benchmarks.md.

Never leaves a process or a folder behind, also on Ctrl-C.
"""

import argparse
import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import contenders
import measures
import processes
import proxy_report
import server
from machine import bin_dir, machine, now, say

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RAW = os.path.join(ROOT, "target", "bench")
# Ports: the server, and two for each contender.
PORTS = 1 + 2 * len(contenders.ALL)
# What PostgreSQL runs besides sessions, and sessions that it may see later than we.
BACKGROUND = 16
FILES_SPARE = 1_000


def options():
    parser = argparse.ArgumentParser(prog="bench/proxy", description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    known = {"contenders": list(contenders.ALL), "measures": list(measures.ALL)}
    for what, names in known.items():
        parser.add_argument(f"--{what}", default=",".join(names), help="of " + ",".join(names))
    parser.add_argument("--base", default="pgbouncer", help="whose figures the ratios are taken against")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each measure (5)")
    parser.add_argument("--memory-rounds", type=int, default=2, help="rounds of memory, which varies little (2)")
    parser.add_argument("--seconds", type=int, default=5, help="of each run of pgbench (5)")
    parser.add_argument("--clients", type=int, default=2000, help="clients of the crowd (2000)")
    parser.add_argument("--idle", type=int, default=2000, help="idle clients whose memory is weighed (2000)")
    parser.add_argument("--binary", default=os.path.join(ROOT, "target", "release", "tanist"), help="our program")
    parser.add_argument("--pgbouncer", default="", help="a PgBouncer that you built, instead of bench/pgbouncer's")
    parser.add_argument("--floor", default="", help=argparse.SUPPRESS)
    parser.add_argument("--out", default=os.path.join(ROOT, "docs", "proxy-benchmarks.md"), help="the table")
    chosen = parser.parse_args()
    for what, names in known.items():
        wanted = [name for name in getattr(chosen, what).split(",") if name]
        unknown = sorted(set(wanted) - set(names))
        if unknown:
            parser.error(f"no such thing among the {what}: {', '.join(unknown)}; known are {', '.join(names)}")
        setattr(chosen, what, [name for name in names if name in wanted])
    chosen.binary = os.path.abspath(chosen.binary)
    return chosen


class Place:
    """Where contenders live and what they may use."""

    def __init__(self, chosen, folder):
        self.folder, self.binary, self.pgbouncer, self.floor = folder, chosen.binary, chosen.pgbouncer, chosen.floor
        self.clients = max(chosen.clients, chosen.idle)
        self._ports = processes.free_ports(PORTS)
        self.server_port = self._ports.pop()
        self.certificate = certificate(folder)

    def ports(self, count):
        return [self._ports.pop() for _ in range(count)]


def certificate(folder):
    """File name -> text of a certificate of our own, and its key."""
    paths = [os.path.join(folder, name) for name in ("cert.pem", "key.pem")]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-subj", "/CN=localhost", "-days", "30", "-out", paths[0], "-keyout", paths[1]],
                   check=True, capture_output=True)
    texts = {}
    for path in paths:
        with open(path) as file:
            texts[os.path.basename(path)] = file.read()
        os.remove(path)
    return texts


class Bench:
    """All results of one call."""

    def __init__(self, chosen, folder):
        self.chosen, self.folder, place = chosen, folder, Place(chosen, folder)
        everyone = [contenders.ALL[name](place) for name in chosen.contenders]
        missing = {c.name: c.missing() for c in everyone}
        self.there = [c for c in everyone if not missing[c.name]]
        self.server = server.Server(folder, place.server_port, place.clients)
        self.results = {
            "began": now(), "machine": machine(), "command": command(), "base": chosen.base, "rounds": [],
            "size": {key: getattr(chosen, key) for key in ("seconds", "clients", "idle")},
            "missing": {c.name: [c.what, missing[c.name]] for c in everyone if missing[c.name]},
            "contenders": {c.name: [c.what, c.version()] for c in self.there}}
        for name, why in missing.items():
            if why:
                say(f"skipped: {name}: {why}")

    def run(self):
        self.server.start()
        for name in self.chosen.measures:
            self.play(measures.ALL[name])

    def play(self, measure):
        """All rounds of a measure, each in another order."""
        wanted = [c for c in self.there if not measure.leaves_out(c)]
        rounds = self.chosen.memory_rounds if measure.fresh else self.chosen.rounds
        try:
            for contender in wanted if not measure.fresh else ():
                self.attempt(measure, contender, 0, contender.start)
            for i in range(rounds):
                turn = i % max(len(wanted), 1)
                for contender in wanted[turn:] + wanted[:turn]:
                    self.attempt(measure, contender, i + 1, lambda: self.one(measure, contender, i + 1))
        finally:
            for contender in wanted:
                contender.stop()

    def one(self, measure, contender, i):
        """One measure of one contender; where a start matters or the last has failed, on a new process."""
        measures.until_alone(self.server, BACKGROUND + contenders.SERVER_CONNECTIONS * len(self.there))
        if measure.fresh or not contender.is_up:
            contender.stop()
            contender.start()
        load = os.getloadavg()[0]
        figures = measure.take(contender, self.chosen)
        self.results["rounds"].append({"measure": measure.name, "contender": contender.name, "round": i,
                                       "load": load, "figures": figures})
        say(f"{measure.name} {i} {contender.name}: {proxy_report.in_words(measure, figures)}")
        if measure.fresh:
            contender.stop()

    def attempt(self, measure, contender, i, do):
        """A failure is a result, and the contender gets a new start."""
        try:
            do()
        except Exception as error:  # Ctrl-C is not an Exception
            contender.stop()
            words = " ".join(f"{type(error).__name__}: {error}".split())
            words = words.replace(self.folder + "/", "").replace(ROOT + "/", "")
            say(f"{measure.name} {i} {contender.name}: FAILED: {words}")
            self.results["rounds"].append({"measure": measure.name, "contender": contender.name, "round": i,
                                           "load": os.getloadavg()[0], "failed": words})
        self.save()

    def save(self):
        with open(os.path.join(RAW, "proxy.json"), "w") as file:
            json.dump(self.results, file, indent=1)

    def close(self):
        for contender in self.there:
            contender.stop()
        self.server.stop()


def command():
    """What was typed, without what bench/proxy found out by itself."""
    return os.environ.get("PROXY_BENCH_COMMAND") or shlex.join(["bench/proxy", *sys.argv[1:]])


def allow_files(count):
    """Every idle client is a file, here and in the contender."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < count and os.geteuid() != 0:
        sys.exit(f"bench: {count} open files are needed and {most} allowed: raise `ulimit -n`, or take fewer clients")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(most, count), max(most, count)))


def main():
    chosen = options()
    allow_files(2 * max(chosen.clients, chosen.idle) + FILES_SPARE)
    os.makedirs(RAW, exist_ok=True)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    os.environ["PATH"] = os.pathsep.join([bin_dir(), os.environ["PATH"], "/usr/sbin", "/sbin"])
    folder, bench, began = tempfile.mkdtemp(prefix="tanist-bench-"), None, time.monotonic()
    os.chmod(folder, 0o755)
    try:
        bench = Bench(chosen, folder)
        bench.run()
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if bench:
            bench.close()
        shutil.rmtree(folder, ignore_errors=True)
    bench.results["minutes"] = (time.monotonic() - began) / 60
    bench.save()
    with open(chosen.out, "w") as file:
        file.write(proxy_report.markdown(bench.results))
    say(f"written: {os.path.relpath(chosen.out, ROOT)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        say("stopped; what was measured so far is in target/bench/proxy.json")
        sys.exit(130)
