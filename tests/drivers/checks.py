"""Runs the checks of one driver and says one line for each.

`Elsewhere` is what keeps the checks from being vacuous: in transaction mode it
holds the server that the client under test had last, so that the client's next
transaction is another server's. A suite that has seen one server only, fails.
"""

import argparse
import asyncio
import inspect
import sys
import traceback

import psycopg

CHECK_LIMIT_S = 40


class Suite:
    """All checks of one driver."""

    def __init__(self, driver):
        parser = argparse.ArgumentParser()
        parser.add_argument("--url", required=True)
        parser.add_argument("--mode", default="transaction")
        args = parser.parse_args()
        self.driver, self.url, self.mode = driver, args.url, args.mode
        self.failed, self.pids = 0, set()

    def scheme(self, name):
        """The URL as SQLAlchemy has it."""
        return self.url.replace("postgresql://", f"postgresql+{name}://")

    def run(self, *checks):
        for check in checks:
            name = check.__name__.replace("_", " ")
            try:
                if inspect.iscoroutinefunction(check):
                    asyncio.run(asyncio.wait_for(check(), CHECK_LIMIT_S))
                else:
                    check()
                print(f"ok   {self.driver}: {name}", flush=True)
            except Exception as e:  # noqa: BLE001: whatever it is, it is this check's
                self.failed += 1
                where = traceback.extract_tb(e.__traceback__)
                mine = [f for f in where if "drivers" in f.filename and "venv" not in f.filename]
                line = mine[-1].lineno if mine else 0
                print(f"FAIL {self.driver}: {name}: line {line}: {type(e).__name__}: {str(e).strip()[:300]}", flush=True)
        if self.mode == "transaction":
            good = len(self.pids) >= 2
            self.failed += not good
            print(f"{'ok  ' if good else 'FAIL'} {self.driver}: {len(self.pids)} servers were seen", flush=True)
        sys.exit(1 if self.failed else 0)

    def elsewhere(self):
        return Elsewhere(self)


class Elsewhere:
    """While this is entered, the client under test is served by another server than before."""

    def __init__(self, suite):
        self.suite = suite

    def __enter__(self):
        self.other = None
        if self.suite.mode == "transaction":
            self.other = psycopg.connect(self.suite.url, autocommit=True, prepare_threshold=None)
            self.other.execute("begin")
            self.suite.pids.add(self.other.execute("select pg_backend_pid()").fetchone()[0])
        return self

    def __exit__(self, *_):
        if self.other:
            self.other.execute("rollback")
            self.other.close()

    async def __aenter__(self):
        return self.__enter__()

    async def __aexit__(self, *_):
        self.__exit__()


def same(got, want):
    assert got == want, f"got {got!r}, not {want!r}"
