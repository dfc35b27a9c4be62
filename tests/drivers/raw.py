"""Sends the same raw messages to PostgreSQL and through a proxy, and compares the answers.

    raw.py --direct HOST:PORT --proxy HOST:PORT [--proxy ...] [--only WORD] [--split] [--storm]

One line a check; a difference is shown with both transcripts. `--split` cuts
short scripts at every byte, `--storm` adds crowds: idle clients, slow readers,
cancels by the hundred. Needs a PostgreSQL that believes `postgres` without a
password, as it writes tables into its database `postgres`.
"""

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor

import rawmore
import rawstart
from rawwire import Q, Raw, connect
from scripts import BROKEN, COPY, EXTENDED, SIMPLE

SPLIT_BYTES_MAX = 130
SETUP = """drop table if exists raw_t, raw_w; create table raw_t(a int primary key);
insert into raw_t select generate_series(1,5); create table raw_w(a int);
do $$begin create role raw_role; exception when duplicate_object then null; end$$"""


def address(text):
    host, _, port = text.rpartition(":")
    return (host, int(port))


def play(target, script, counts=None, pieces=None):
    """The transcript, one list for each stretch."""
    raw = connect(target)
    out = [[m for m in raw.hello if m[0] in "RZE"]]
    for i, stretch in enumerate(script):
        count = counts[i + 1] if counts else None
        for piece in pieces(stretch) if pieces else [stretch]:
            raw.send(piece)
            if pieces:
                raw.fill(0.002) if counts else None
        out.append(raw.listen(count, quiet=0.15 if counts else 0.3))
        if raw.ended:
            break
    raw.close()
    return out


def clear(direct):
    """An empty table before each script that writes."""
    raw = connect(direct)
    raw.send(Q("truncate raw_w") + Q("rollback prepared 'raw_2pc'"))
    raw.until_ready()
    raw.close()


def short(message):
    text = repr(message)
    return text if len(text) < 160 else text[:150] + f"... ({len(text)})"


def shown(transcript):
    return "\n".join("      | " + ("  ".join(map(short, part)) if isinstance(part, list) else short(part)) for part in transcript)


class Report:
    """Counts, and says one line a check."""

    def __init__(self):
        self.failed = self.passed = 0

    def check(self, name, good, why=""):
        self.passed += bool(good)
        self.failed += not good
        print(f"{'ok  ' if good else 'FAIL'} {name}" + (f"\n{why}" if why and not good else ""), flush=True)

    def same(self, name, direct, proxy):
        why = f"    PostgreSQL:\n{shown(direct)}\n    proxy:\n{shown(proxy)}"
        self.check(name, direct == proxy, why)


def everything():
    for group, scripts in (("simple", SIMPLE), ("extended", EXTENDED), ("copy", COPY), ("broken", BROKEN)):
        for name, script in scripts.items():
            yield f"{group}: {name}", script


def differ(args, report):
    for name, script in everything():
        if args.only not in name:
            continue
        clear(args.direct)
        direct = play(args.direct, script)
        for proxy in args.proxy:
            clear(args.direct)
            counts = [len(part) for part in direct]
            got = play(proxy, script, counts)
            broken = name.startswith("broken: ")
            report.same(f"{proxy[1]} {name}", *([ends(direct), ends(got)] if broken else [direct, got]))


def ends(transcript):
    """After nonsense all that counts is that it ends, in whatever words."""
    return [m for m in transcript[-1] if m[0] not in "E"]


def writes(script):
    return any(b"raw_w" in s or b"raw_2pc" in s or b"raw_n" in s for s in script)


def split(args, report):
    """Short scripts that write nothing, cut in two at every byte, and sent byte by byte."""
    for name, script in everything():
        small = sum(map(len, script)) <= SPLIT_BYTES_MAX
        if args.only not in name or not small or writes(script):
            continue
        direct = play(args.direct, script)
        counts = [len(part) for part in direct]
        cuts = range(1, max(map(len, script)))
        ways = [lambda s, n=n: [s[:n], s[n:]] for n in cuts] + [lambda s: [s[i:i + 1] for i in range(len(s))]]
        for proxy in args.proxy:
            with ThreadPoolExecutor(3) as pool:
                got = list(pool.map(lambda way: play(proxy, script, counts, way), ways))
            wrong = [i for i, g in enumerate(got) if g != direct]
            why = f"    cut at {wrong[:20]}\n    PostgreSQL:\n{shown(direct)}\n    proxy:\n{shown(got[wrong[0]])}" if wrong else ""
            report.check(f"{proxy[1]} split: {name}", not wrong, why)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--direct", type=address, required=True)
    parser.add_argument("--proxy", type=address, action="append", required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--split", action="store_true")
    parser.add_argument("--storm", action="store_true")
    args = parser.parse_args()
    raw = connect(args.direct)
    raw.send(Q(SETUP))
    raw.until_ready()
    raw.close()
    report = Report()
    differ(args, report)
    rawstart.checks(args, report)
    rawmore.checks(args, report)
    if args.split:
        split(args, report)
    if args.storm:
        rawmore.storms(args, report)
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
