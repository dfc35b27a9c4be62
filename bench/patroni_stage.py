"""Three Patroni nodes with one etcd and one HAProxy on this machine: the peer.

Clients go through HAProxy, whose configuration is the one that Patroni ships,
with the check's times as the only difference. `defaults` is what Patroni does
when nothing is set; `tuned` is the shortest that it accepts, with quorum commit.

Never touches a service or a cluster of the distribution's: high ports, and
folders that are removed.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request

import processes
from processes import free_ports, listens

NODES = ("p1", "p2", "p3")
UP_SECONDS = 240
REST_SECONDS = 2
SWITCHOVER_SECONDS = 120
WRITE_SECONDS = 2

SETTINGS = {
    "defaults": {"dcs": {}, "check": "inter 3s fall 3 rise 2"},
    "tuned": {
        "dcs": {"ttl": 20, "loop_wait": 1, "retry_timeout": 3, "primary_start_timeout": 0,
                "synchronous_mode": "quorum", "synchronous_mode_strict": True},
        "check": "inter 300ms fall 2 rise 1",
    },
}

HAPROXY = """global
    maxconn 400
defaults
    mode tcp
    retries 2
    timeout client 30m
    timeout connect 4s
    timeout server 30m
    timeout check 5s
listen primary
    bind 127.0.0.1:{port}
    option httpchk OPTIONS /primary
    http-check expect status 200
    default-server {check} on-marked-down shutdown-sessions
"""


class PatroniStage:
    """etcd, three times Patroni over PostgreSQL, HAProxy."""

    product = "patroni"

    def __init__(self, folder, settings, bin_dir):
        self.settings, self.bin_dir, self.dir = settings, bin_dir, os.path.join(folder, f"patroni-{settings}")
        os.mkdir(self.dir, 0o755)
        processes.owned_by_server_user(self.dir)
        ports = free_ports(9)
        self.etcd_port, self.etcd_peer, self.proxy_port = ports[:3]
        self.rest = dict(zip(NODES, ports[3:6]))
        self.postgres = dict(zip(NODES, ports[6:9]))
        self.nodes = list(NODES)
        self.databases = self.nodes
        self.running = {}
        tail = "user=postgres dbname=postgres connect_timeout=2 tcp_user_timeout=2000 keepalives_idle=1"
        self._tail = f"{tail} keepalives_interval=1"
        self.dsn = f"host=127.0.0.1 port={self.proxy_port} {self._tail}"
        began = time.monotonic()
        try:
            self._up()
        except BaseException:
            self.close()
            raise
        self.seconds_to_healthy = time.monotonic() - began

    def _up(self):
        self._copy_patroni()
        self._start_etcd()
        for name in NODES:
            self._write_configuration(name)
        self.start_node(NODES[0])
        processes.wait_until(self.leader, UP_SECONDS, "the first Patroni leads")
        for name in NODES[1:]:
            self.start_node(name)
        self._start_haproxy()
        processes.wait_until(self.is_healthy, UP_SECONDS, "three Patroni nodes healthy")

    def _copy_patroni(self):
        """The user `postgres` may not be able to reach the checkout; it can reach this copy."""
        packages = next(p for p in sys.path if p.endswith("site-packages"))
        shutil.copytree(packages, os.path.join(self.dir, "packages"),
                        ignore=shutil.ignore_patterns("pip*", "setuptools*", "__pycache__"))

    def _start(self, what, command, **options):
        log = os.path.join(self.dir, f"{what}.log")
        self.running[what] = processes.start(processes.as_server_user(command), log, cwd=self.dir, **options)

    def _start_etcd(self):
        client, peer = f"http://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{self.etcd_peer}"
        self._start("etcd", [
            "etcd", "--name", "e1", "--data-dir", os.path.join(self.dir, "etcd"),
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"e1={peer}"])
        processes.wait_until(lambda: listens(self.etcd_port), UP_SECONDS, "etcd listens")

    def _start_haproxy(self):
        text = HAPROXY.format(port=self.proxy_port, check=SETTINGS[self.settings]["check"])
        for name in NODES:
            text += f"    server {name} 127.0.0.1:{self.postgres[name]} maxconn 100 check port {self.rest[name]}\n"
        path = os.path.join(self.dir, "haproxy.cfg")
        with open(path, "w") as file:
            file.write(text)
        self._start("haproxy", ["haproxy", "-db", "-f", path])

    def _write_configuration(self, name):
        """JSON is YAML."""
        trust = [f"{kind} all 127.0.0.1/32 trust" for kind in ("host all", "host replication")]
        with open(self._file(name, "yml"), "w") as file:
            json.dump({
                "scope": "bench", "name": name,
                "restapi": {"listen": f"127.0.0.1:{self.rest[name]}",
                            "connect_address": f"127.0.0.1:{self.rest[name]}"},
                "etcd3": {"host": f"127.0.0.1:{self.etcd_port}"},
                "bootstrap": {"dcs": SETTINGS[self.settings]["dcs"] | {"postgresql": {"use_pg_rewind": True}},
                              "initdb": [{"encoding": "UTF8"}, "data-checksums"]},
                "postgresql": {
                    "listen": f"127.0.0.1:{self.postgres[name]}",
                    "connect_address": f"127.0.0.1:{self.postgres[name]}",
                    "data_dir": self._file(name, "data"), "bin_dir": self.bin_dir,
                    "pgpass": self._file(name, "pgpass"),
                    "authentication": {"superuser": {"username": "postgres", "password": "bench"},
                                       "replication": {"username": "replicator", "password": "bench"}},
                    "pg_hba": ["local all all trust"] + trust,
                    "parameters": {"unix_socket_directories": self.dir}},
            }, file, indent=1)

    def _file(self, name, kind):
        return os.path.join(self.dir, f"{name}.{kind}")

    def _get(self, name, path):
        """An answer of a node's REST API, whatever its status code; nothing if there is none."""
        try:
            url = f"http://127.0.0.1:{self.rest[name]}{path}"
            with urllib.request.urlopen(url, timeout=REST_SECONDS) as answer:
                return json.load(answer)
        except (OSError, ValueError):
            return None

    def members(self):
        """What the first node that answers says of all."""
        for name in NODES:
            seen = self._get(name, "/cluster") if name in self.running else None
            if seen:
                return seen.get("members", [])
        return []

    def leader(self):
        return next((m["name"] for m in self.members()
                     if m["role"] == "leader" and m["state"] == "running"), None)

    def terms(self):
        """Patroni has no terms; the timeline grows with each leader."""
        return max((m.get("timeline", 0) for m in self.members()), default=0)

    def is_healthy(self):
        others = [m for m in self.members() if m["role"] != "leader"]
        kinds = ("quorum_standby",) if self.settings == "tuned" else ("replica",)
        streaming = all(m["role"] in kinds and m["state"] == "streaming" for m in others)
        return len(others) == len(NODES) - 1 and streaming and bool(self.leader())

    def is_standby(self, name):
        return any(m["name"] == name and m["state"] == "streaming" for m in self.members())

    def server_dsn(self, name):
        return f"host=127.0.0.1 port={self.postgres[name]} {self._tail}"

    def acknowledges_directly(self, name, run):
        """Whether this server acknowledges one row to a client that does not come through HAProxy."""
        row = f"insert into bench values (-{run}, {time.monotonic_ns()})"
        psql = ["psql", "-X", "-q", "-d", self.server_dsn(name), "-c", row]
        return subprocess.run(["timeout", "-s", "KILL", str(WRITE_SECONDS)] + psql,
                              capture_output=True).returncode == 0

    def switchover(self):
        leader = self.leader()
        body = json.dumps({"leader": leader}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.rest[leader]}/switchover", body,
                                         {"Content-Type": "application/json"}, method="POST")
        return urllib.request.urlopen(request, timeout=SWITCHOVER_SECONDS).read().decode()

    def kill_postmaster(self, name):
        processes.send(processes.postmaster_of(self._file(name, "data")), signal.SIGKILL)

    def kill_node(self, name):
        """Patroni and PostgreSQL together, as when their host is lost."""
        agent = self.running.pop(name)
        data = self._file(name, "data")
        agent.kill()
        processes.kill_at_once([processes.postmaster_of(data)] if processes.postmaster_of(data) else [], data)
        agent.wait()

    def start_node(self, name):
        program = [sys.executable if os.geteuid() != 0 else "/usr/bin/python3", "-m", "patroni"]
        environment = {**os.environ, "PYTHONPATH": os.path.join(self.dir, "packages")}
        self._start(name, program + [self._file(name, "yml")], env=environment)

    def stop_agent(self, name):
        processes.send(self.running[name].pid, signal.SIGSTOP)

    def release_agent(self, name):
        processes.send(self.running[name].pid, signal.SIGCONT)

    def logs(self):
        return [os.path.join(self.dir, f"{what}.log") for what in (*NODES, "etcd", "haproxy")]

    def close(self):
        """Ends everything and removes the folder."""
        for name in ("haproxy", *NODES, "etcd"):
            if name in self.running:
                processes.end(self.running[name])
        for name in NODES:
            processes.kill_at_once([], self._file(name, "data"))
        shutil.rmtree(self.dir, ignore_errors=True)
