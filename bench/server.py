"""The PostgreSQL behind all contenders, with pgbench's tables in it.

All rows fit into its memory and nothing is flushed to disk: what is measured
stands in front of it, and the disk's moods would hide that.

Never touches a cluster of the distribution's: a folder of our own, a port of our own.
"""

import os
import shutil
import signal
import subprocess

import processes
import wire

SCALE = 10
UP_SECONDS = 60
FILL_SECONDS = 600

SETTINGS = {
    "listen_addresses": "'127.0.0.1'", "unix_socket_directories": "''", "shared_buffers": "512MB",
    "fsync": "off", "full_page_writes": "off", "autovacuum": "off", "max_wal_size": "8GB",
    "checkpoint_timeout": "1h", "log_min_messages": "fatal",
}


class Server:
    """One PostgreSQL with `trust`, ready for `clients` at once."""

    def __init__(self, folder, port, clients):
        self.dir, self.port, self.process = os.path.join(folder, "server"), port, None
        os.mkdir(self.dir)
        processes.owned_by_server_user(self.dir)
        self._run("initdb", "--no-sync", "--username", wire.USER, "--auth", "trust", "--encoding", "UTF8", "data")
        settings = SETTINGS | {"port": port, "max_connections": clients + 200}
        with open(os.path.join(self.dir, "data", "postgresql.auto.conf"), "a") as file:
            file.writelines(f"{name} = {value}\n" for name, value in settings.items())

    def start(self):
        command = processes.as_server_user([shutil.which("postgres"), "-D", os.path.join(self.dir, "data")])
        self.process = processes.start(command, os.path.join(self.dir, "log"), cwd=self.dir)
        processes.wait_until(lambda: answers(self.port), UP_SECONDS, "PostgreSQL answers")
        self._run("pgbench", "-i", "-q", "-s", str(SCALE), "-h", "127.0.0.1", "-p", str(self.port),
                  "-U", wire.USER, "postgres")

    def backends(self):
        """How many sessions it serves at the moment."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as file:
            return len(file.read().split())

    def _run(self, program, *options):
        command = processes.as_server_user([shutil.which(program), *options])
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.dir, timeout=FILL_SECONDS)
        if done.returncode != 0:
            raise RuntimeError(f"{program}: {done.stderr.strip()}")

    def stop(self):
        if self.process:
            processes.end(self.process, signal.SIGQUIT)


def answers(port):
    """Whether a session can be had there."""
    try:
        client = wire.connect(port)
        wire.query(client, "SELECT 1")
        wire.close(client)
        return True
    except (OSError, wire.Refused):
        return False
