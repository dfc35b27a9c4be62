"""Runs the benchmarks: `make bench`, with BENCH="..." for these options.

Makes each cluster in a temporary folder, plays every event on it as often as
asked, and writes raw results to target/bench and a table to docs/benchmarks.md.
A run that fails is recorded, its logs are kept, and its cluster is replaced.

Never leaves a process, a folder or a network namespace behind, also on Ctrl-C.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

import events
import report
import rest
from machine import bin_dir, machine, now, say
from patroni_stage import SETTINGS, PatroniStage
from tanist_stage import WITNESS, TanistStage

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RAW = os.path.join(ROOT, "target", "bench")
LOG_BYTES = 400_000
WORDS_MAX = 400
EXTRAS = ("busy", "rest", "healthy")


def options():
    known = list(events.EVENTS) + list(EXTRAS)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", choices=("tanist", "patroni"), help="leave the other out")
    parser.add_argument("--events", default=",".join(known), help="of " + ",".join(known))
    parser.add_argument("--runs", type=int, default=10, help="runs of each event on Tanist")
    parser.add_argument("--witness-runs", type=int, default=5, help=f"runs of each event on {WITNESS}")
    parser.add_argument("--peer-runs", type=int, default=3, help="runs of each event on the peer, per setting")
    parser.add_argument("--busy-minutes", type=float, default=30, help="pgbench -c 32")
    parser.add_argument("--rest-minutes", type=float, default=5, help="how long processes are watched at rest")
    parser.add_argument("--out", default=os.path.join(ROOT, "docs", "benchmarks.md"), help="the table")
    parser.add_argument("--binary", default=os.path.join(ROOT, "target", "release", "tanist"),
                        help="the program to measure")
    chosen = parser.parse_args()
    chosen.binary = os.path.abspath(chosen.binary)
    chosen.events = [event for event in chosen.events.split(",") if event]
    unknown = set(chosen.events) - set(known)
    if unknown:
        parser.error(f"no such event: {', '.join(sorted(unknown))}; known are {', '.join(known)}")
    return chosen


class Bench:
    """All results of one call, and the stage that is up at the moment."""

    def __init__(self, chosen, folder):
        self.chosen, self.folder, self.stage, self.count = chosen, folder, None, 0
        self.results = {"began": now(), "machine": machine(), "command": command(), "runs": [],
                        "busy": None, "rest": {}, "healthy_s": [], "binary": sizes(chosen.binary)}

    def tanist(self):
        wanted = self.chosen.events
        plain = [e for e in events.EVENTS if e in wanted and e != "link"]
        make = lambda: TanistStage(self.chosen.binary, self.folder)
        self.play(make, plain, self.chosen.runs)
        if "link" in wanted and os.geteuid() != 0:
            say("skipped: link: needs root for network namespaces")
        elif "link" in wanted:
            self.play(lambda: TanistStage(self.chosen.binary, self.folder, isolate=True), ["link"], self.chosen.runs)
        self.witness(plain)
        for i in range(self.chosen.runs if "healthy" in wanted else 0):
            self.extra(make, "healthy", i + 1, lambda: self.results["healthy_s"].append(self.stage.seconds_to_healthy))
        if "rest" in wanted:
            self.extra(make, "rest", 1, self.at_rest)
        if "busy" in wanted:
            self.extra(make, "busy", 1, self.busy)

    def witness(self, plain):
        """The same events where one of the three has no database."""
        wanted = [e for e in plain if e in events.WITNESS_EVENTS] if self.chosen.witness_runs else []
        self.play(lambda: TanistStage(self.chosen.binary, self.folder, witness=True), wanted,
                  self.chosen.witness_runs)
        if "link" in self.chosen.events and os.geteuid() == 0 and self.chosen.witness_runs:
            self.play(lambda: TanistStage(self.chosen.binary, self.folder, isolate=True, witness=True), ["link"],
                      self.chosen.witness_runs)

    def patroni(self):
        wanted = [e for e in events.PEER_EVENTS if e in self.chosen.events]
        for settings in SETTINGS:
            make = lambda: PatroniStage(self.folder, settings, bin_dir())
            self.play(make, wanted, self.chosen.peer_runs)
            if "rest" in self.chosen.events:
                self.extra(make, "rest", 1, self.at_rest)

    def extra(self, make, name, i, measure):
        """Something that needs a cluster of its own and is no event."""
        try:
            self.use(make)
            measure()
        except Exception as error:  # a failed run is a result; Ctrl-C is not an Exception
            say(f"{name} {i}: FAILED: {traceback.format_exc()}")
            self.results["runs"].append({"event": name, "run": i, "failed": self.in_words(error)})
        self.leave()
        self.save()

    def at_rest(self):
        who = f"{self.stage.product} {self.stage.settings}"
        say(f"{who}: at rest for {self.chosen.rest_minutes:g} min")
        self.results["rest"][who] = rest.cost(self.stage, self.chosen.rest_minutes)

    def busy(self):
        say(f"tanist defaults: pgbench for {self.chosen.busy_minutes:g} min")
        self.results["busy"] = rest.busy(self.stage, self.chosen.busy_minutes)
        self.keep_logs("busy")

    def play(self, make, wanted, runs):
        """Events in turn, not in blocks: what the machine does meanwhile hits all alike."""
        for i in range(runs):
            for event in wanted:
                self.one(make, event, i + 1)
        self.leave()

    def one(self, make, event, i):
        self.count += 1
        run = {"event": event, "run": i, "at": now()}
        try:
            self.use(make)
            run |= {"product": self.stage.product, "settings": self.stage.settings, "load": os.getloadavg()[0]}
            run |= events.play(self.stage, event, self.count)
            say(f"{run['product']} {run['settings']} {event} {i}: {report.run_in_words(run)}")
            if report.is_suspicious(run):
                run["logs"] = self.keep_logs(f"{event}-{self.count}")
        except Exception as error:  # a failed run is a result; Ctrl-C is not an Exception
            run["failed"] = self.in_words(error)
            say(f"{event} {i}: FAILED: {traceback.format_exc()}")
            if self.stage:
                run["logs"] = self.keep_logs(f"{event}-{self.count}")
            self.leave()
        self.results["runs"].append(run)
        self.save()

    def in_words(self, error):
        """One line that knows nothing of where it ran."""
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return text.replace(self.folder, "").replace(ROOT + "/", "")[:WORDS_MAX]

    def use(self, make):
        if self.stage is None:
            self.stage = make()

    def leave(self):
        if self.stage:
            self.stage.close()
        self.stage = None

    def keep_logs(self, name):
        """The ends of all logs, under target/bench/logs."""
        folder = os.path.join(RAW, "logs", f"{self.stage.product}-{self.stage.settings}-{name}")
        os.makedirs(folder, exist_ok=True)
        for path in self.stage.logs():
            if os.path.exists(path):
                with open(path, "rb") as log:
                    log.seek(max(0, os.path.getsize(path) - LOG_BYTES))
                    text = log.read()
                kept = os.path.relpath(path, self.stage.dir).replace("/", "-")
                with open(os.path.join(folder, kept), "wb") as copy:
                    copy.write(text)
        return os.path.relpath(folder, ROOT)

    def save(self):
        with open(os.path.join(RAW, "results.json"), "w") as file:
            json.dump(self.results, file, indent=1)


def command():
    given = os.environ.get("BENCH", "").strip()
    return f'make bench BENCH="{given}"' if given else "make bench"


def sizes(binary):
    """Bytes of the program as built, and without its symbols."""
    with tempfile.NamedTemporaryFile() as bare:
        done = subprocess.run(["strip", "-o", bare.name, binary], capture_output=True)
        stripped = os.path.getsize(bare.name) if done.returncode == 0 else None
    return {"built_bytes": os.path.getsize(binary), "stripped_bytes": stripped}


def main():
    chosen = options()
    os.makedirs(RAW, exist_ok=True)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    folder = tempfile.mkdtemp(prefix="tanist-bench-")
    os.chmod(folder, 0o755)
    os.environ["PATH"] = os.pathsep.join([bin_dir(), os.environ["PATH"], "/usr/sbin", "/sbin"])
    missing = [program for program in ("etcd", "haproxy") if not shutil.which(program)]
    bench = Bench(chosen, folder)
    began = time.monotonic()
    try:
        if chosen.only != "patroni":
            bench.tanist()
        if chosen.only != "tanist" and missing:
            say(f"skipped: patroni: needs {' and '.join(missing)}, see tools/install")
        elif chosen.only != "tanist":
            bench.patroni()
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        bench.leave()
        shutil.rmtree(folder, ignore_errors=True)
    bench.results["minutes"] = (time.monotonic() - began) / 60
    bench.save()
    with open(chosen.out, "w") as file:
        file.write(report.markdown(bench.results))
    say(f"written: {os.path.relpath(chosen.out, ROOT)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        say("stopped; what was measured so far is in target/bench/results.json")
        sys.exit(130)
