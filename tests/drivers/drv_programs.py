"""psql and pgbench, which come with PostgreSQL."""

import os
import re
import shutil
import subprocess
import tempfile

from checks import Suite, same

suite = Suite("psql, pgbench")
NEWEST = "/usr/lib/postgresql"


def program(name):
    """On the path, or where Debian has it."""
    versions = sorted(os.listdir(NEWEST), key=float, reverse=True) if os.path.isdir(NEWEST) else []
    places = [shutil.which(name)] + [f"{NEWEST}/{v}/bin/{name}" for v in versions]
    return next(p for p in places if p and os.path.exists(p))


def psql(script, fails=False):
    done = subprocess.run([program("psql"), "-X", "-At", "-v", "VERBOSITY=terse", suite.url], input=script, text=True,
                          capture_output=True, timeout=30)
    assert fails or (done.returncode == 0 and not done.stderr), done.stderr
    return (done.stdout + done.stderr).strip().splitlines()


def version():
    return int(re.search(r"(\d+)", subprocess.check_output([program("psql"), "--version"], text=True)[4:])[1])


def plain_scripts():
    same(psql("select 1; select 2;"), ["1", "2"])
    same(psql("select 1\\; select 2;\n"), ["1", "2"])
    same(psql("begin; create table drv_p(a int); insert into drv_p values (1),(2) returning a; rollback;"),
         ["BEGIN", "CREATE TABLE", "1", "2", "INSERT 0 2", "ROLLBACK"])
    same(psql("select 1/0; select 3;", fails=True)[0], "3")


def psql_copy():
    with tempfile.NamedTemporaryFile("w", suffix=".csv") as f:
        f.write("1,a\n2,b\n")
        f.flush()
        got = psql(f"create temp table drv_pc(a int, b text);\n\\copy drv_pc from '{f.name}' csv\nselect count(*) from drv_pc;\n"
                   "\\copy drv_pc to stdout\ncopy drv_pc from stdin;\n3\tc\n\\.\nselect max(a) from drv_pc;\n")
    same(got, ["CREATE TABLE", "COPY 2", "2", "1\ta", "2\tb", "COPY 1", "3"])


def psql_gdesc_gexec_crosstab_and_cursors():
    same(psql("select 1 as a, 'x'::text as b \\gdesc\n"), ["a|integer", "b|text"])
    same(psql("select 'select ' || g from generate_series(1,3) g \\gexec\n"), ["1", "2", "3"])
    same(psql("\\set FETCH_COUNT 10\nselect count(*) from (select generate_series(1,35)) x;\nselect generate_series(1,35);\n")[-1], "35")
    same(psql("\\set AUTOCOMMIT off\nselect 1;\ncommit;\n"), ["1", "COMMIT"])
    same(psql("\\set ON_ERROR_ROLLBACK on\nbegin;\nselect 1/0;\nselect 5;\ncommit;\n", fails=True)[:3], ["BEGIN", "5", "COMMIT"])
    assert psql("\\d pg_class\n\\dt\n\\l\n\\du\n\\dn\n")


def psql_watch():
    if version() < 16:
        return
    same(psql("select 1 \\watch i=0.05 c=3\n"), ["1", "1", "1"])


def psql_bind():
    if version() < 16:
        return
    same(psql("select $1::int + $2::int \\bind 3 4 \\g\n"), ["7"])
    if version() >= 18:
        same(psql("select $1::int \\parse s\n\\bind_named s 5 \\g\n\\close s\n"), ["5"])


def psql_reconnects_and_switches():
    same(psql("\\c\nselect 1;\n")[-1], "1")
    same(psql("set role pg_monitor; select current_user; reset role;\n")[1], "pg_monitor")
    same(psql("\\encoding LATIN1\nselect 1;\n\\encoding\n"), ["1", "LATIN1"])


def pgbench(*options, script=None):
    # A thread for each client: pgbench waits for PQprepare with the whole thread, so a client that waits
    # for a server would keep the one that has it from going on.
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as f:
        if script:
            f.write(script)
            f.flush()
            options = (*options, "-f", f.name)
        done = subprocess.run([program("pgbench"), "-n", "-j", "8", *options, suite.url], text=True, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr[-400:]
    got = re.search(r"actually processed: (\d+)/(\d+)", done.stdout)
    assert got and got[1] == got[2], done.stdout
    failed = re.search(r"failed transactions: (\d+)", done.stdout)
    assert not failed or failed[1] == "0", done.stdout


def pgbench_in_all_protocols():
    done = subprocess.run([program("pgbench"), "-i", "-q", "-s", "1", suite.url], text=True, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for protocol in ("simple", "extended", "prepared"):
        pgbench("-c", "8" if suite.mode == "transaction" else "2", "-t", "100", "-M", protocol)
    same(psql("select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history)"
              " and (select sum(bbalance) from pgbench_branches) = (select sum(delta) from pgbench_history);"), ["t"])


PIPELINE = """\\startpipeline
begin;
select 1;
select count(*) from pgbench_branches;
update pgbench_branches set bbalance = bbalance where bid = 1;
end;
\\endpipeline
\\startpipeline
select 2;
select 3;
\\endpipeline
"""
SERVERS = """insert into drv_pids select pg_backend_pid();
"""


def pgbench_pipelines():
    for protocol in ("extended", "prepared"):
        pgbench("-c", "4" if suite.mode == "transaction" else "2", "-t", "100", "-M", protocol, script=PIPELINE)


def pgbench_on_two_servers():
    psql("create table if not exists drv_pids(pid int); truncate drv_pids;\n", fails=True)
    pgbench("-c", "8" if suite.mode == "transaction" else "2", "-t", "50", "-M", "prepared", script=SERVERS)
    suite.pids.update(psql("select distinct pid from drv_pids;"))


def pgbench_reconnects():
    pgbench("-C", "-c", "4" if suite.mode == "transaction" else "2", "-t", "30", "-M", "prepared", script="select 1;\n")


suite.run(plain_scripts, psql_copy, psql_gdesc_gexec_crosstab_and_cursors, psql_watch, psql_bind,
          psql_reconnects_and_switches, pgbench_in_all_protocols, pgbench_pipelines, pgbench_on_two_servers,
          pgbench_reconnects)
