"""A Tanist cluster on this machine, and what can be done to it from outside: three
nodes, or two and a witness that keeps WAL.

Made by `tanist playground`, with its defaults; clients use its `direct_url`.
Faults are signals by pid and a bridge port that stops forwarding.

Never asks an agent to hurt itself, and never touches another playground.
"""

import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import processes

UP_SECONDS = 180
ANSWER_SECONDS = 60
WRITE_SECONDS = 2
WITNESS = "2 nodes and a WAL witness"


class TanistStage:
    """A playground; `direct` is what a client needs besides host and port."""

    product = "tanist"

    def __init__(self, binary, folder, isolate=False, witness=False):
        self.binary, self.dir, self.isolate = binary, os.path.join(folder, "playground"), isolate
        self.settings = WITNESS if witness else "defaults"
        self._freezer = None
        began = time.monotonic()
        options = ["--isolate"] if isolate else []
        options += ["--nodes", "2", "--wal-witness"] if witness else []
        try:
            self.document = self._json("playground", "up", "--dir", self.dir, "--base-port", "0", *options,
                                       limit=UP_SECONDS)
        except BaseException:
            self.close()
            raise
        self.seconds_to_healthy = time.monotonic() - began
        self.dsn = self.document["direct_url"]
        self.nodes = [node["name"] for node in self.document["nodes"]]
        self.databases = [node["name"] for node in self.document["nodes"] if node["postgres_port"]]

    def _json(self, *arguments, limit=ANSWER_SECONDS):
        command = [self.binary, *arguments, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, cwd="/")
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
        return json.loads(done.stdout)

    def ask(self, *arguments):
        """A verb of the command line, asked of every agent."""
        api = ",".join(self.document["api"])
        return self._json("--api", api, "--token-file", self.document["token_file"], *arguments)

    def node(self, name):
        """The node's part of the playground's document, as it is now."""
        now = self._json("playground", "status", "--dir", self.dir)
        return next(node for node in now["nodes"] if node["name"] == name)

    def status(self):
        """`status --json`, or nothing while nobody answers."""
        try:
            return self.ask("status")
        except (RuntimeError, subprocess.TimeoutExpired, ValueError):
            return None

    def leader(self):
        return (self.status() or {}).get("leader")

    def terms(self):
        return (self.status() or {}).get("term", 0)

    def is_healthy(self):
        """Writable, and every other member streams and may acknowledge."""
        status = self.status()
        if not status or not status["writable"] or status["degraded"] or status["phase"] != "open":
            return False
        others = [m for m in status["members"] if m["role"] != "leader"]
        return len(others) == len(self.nodes) - 1 and all(
            m["role"] in ("standby", "wal-witness") and m["state"] == "streaming" and m["sync"] for m in others)

    def is_standby(self, name):
        """Whether this node follows, by itself."""
        members = (self.status() or {}).get("members", [])
        return any(m["name"] == name and m["role"] == "standby" and m["state"] == "streaming" for m in members)

    def server_dsn(self, name):
        """One server alone, whether it leads or not."""
        node = next(node for node in self.document["nodes"] if node["name"] == name)
        rest = self.dsn.split("/postgres?")[1].split("&", 1)[1]
        user = self.dsn.split("@")[0]
        return f"{user}@{node['address']}:{node['postgres_port']}/postgres?{rest}"

    def acknowledges_directly(self, name, run):
        """Whether this server acknowledges one row to a client beside it. The client is
        killed, not cancelled: a cancelled wait for a standby looks like a commit."""
        node = next(node for node in self.document["nodes"] if node["name"] == name)
        inside = ["ip", "netns", "exec", node["netns"]] if node["netns"] else []
        row = f"insert into bench values (-{run}, {time.monotonic_ns()})"
        psql = ["psql", "-X", "-q", "-d", self.server_dsn(name), "-c", row]
        killed = ["timeout", "-s", "KILL", str(WRITE_SECONDS)]
        return subprocess.run(killed + inside + psql, capture_output=True).returncode == 0

    def switchover(self):
        return self.ask("switchover")

    def kill_postmaster(self, name):
        processes.send(self.node(name)["postmaster_pid"], signal.SIGKILL)

    def kill_node(self, name):
        """Every process of a node at once, as when its host is lost."""
        node = self.node(name)
        pids = [node[f"{what}_pid"] for what in ("guard", "agent", "postmaster")]
        processes.kill_at_once([pid for pid in pids if pid], node["data_dir"])

    def kill_all(self):
        """Every process of every node at once."""
        nodes = self._json("playground", "status", "--dir", self.dir)["nodes"]
        for what in ("guard", "agent", "postmaster"):
            for node in nodes:
                # A witness has no postmaster.
                if node[f"{what}_pid"]:
                    processes.send(node[f"{what}_pid"], signal.SIGKILL)
        for node in nodes:
            processes.kill_at_once([], node["data_dir"])

    def start_node(self, name):
        self._json("playground", "start", name, "--dir", self.dir)

    def start_all(self):
        self._json("playground", "start", "--dir", self.dir)

    def stop_agent(self, name):
        """The agent stops for ever: each one that the guard starts anew is stopped too."""
        guard = self.node(name)["guard_pid"]
        self._freezer = Freezer(guard)
        self._freezer.start()

    def release_agent(self, name):
        if self._freezer:
            self._freezer.release()
        self._freezer = None

    def cut(self, name):
        self._port(name, "0")

    def heal(self, name):
        self._port(name, "3")

    def _port(self, name, state):
        """The node's port at the bridge: 0 disabled, 3 forwarding; neither end is told."""
        port = next(node["netns"] for node in self.document["nodes"] if node["name"] == name)
        subprocess.run(["bridge", "link", "set", "dev", port, "state", state], check=True, timeout=ANSWER_SECONDS)
        with open(f"/sys/class/net/{port}/brport/state") as file:
            found = file.read().strip()
        if found != state:
            raise RuntimeError(f"the port {port} is in state {found}, not {state}: nothing was cut or healed")

    def logs(self):
        """Files that tell what happened."""
        names = ("tanist.log", "log/postgres.log")
        return [os.path.join(self.dir, node, name) for node in self.nodes for name in names]

    def close(self):
        """Ends everything, and removes folder and namespaces."""
        self.release_agent(None)
        try:
            self._json("playground", "down", "--wipe", "--dir", self.dir, limit=UP_SECONDS)
        except (RuntimeError, ValueError, subprocess.TimeoutExpired) as error:
            print(f"bench: {error}", file=sys.stderr)
            self._kill_what_is_left()
            shutil.rmtree(self.dir, ignore_errors=True)

    def _kill_what_is_left(self):
        """By the pids in our own folder, where they still are what we started."""
        for node in glob.glob(os.path.join(self.dir, "n[0-9]*")):
            guard = first_number(os.path.join(node, "guard.pid"))
            ours = guard and any(word.startswith(node) for word in processes.arguments(guard))
            processes.kill_at_once(([guard] + processes.agents_of(guard)) if ours else [],
                                   os.path.join(node, "pgdata"))


def first_number(path):
    """The number in a file, or nothing."""
    try:
        with open(path) as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


class Freezer(threading.Thread):
    """Keeps every agent below a guard stopped."""

    def __init__(self, guard):
        super().__init__(daemon=True)
        self.guard, self.stopped, self.done = guard, set(), threading.Event()

    def run(self):
        while not self.done.is_set():
            for pid in processes.agents_of(self.guard):
                if pid not in self.stopped and processes.send(pid, signal.SIGSTOP):
                    self.stopped.add(pid)
            self.done.wait(0.01)

    def release(self):
        self.done.set()
        self.join()
        for pid in processes.agents_of(self.guard):
            processes.send(pid, signal.SIGCONT)
