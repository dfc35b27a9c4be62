"""What stands between the clients and PostgreSQL: each contender, and how it is set up.

All trust the loopback, all have one port with and one without TLS (or one that
takes both), and all else is what they do when nothing is set, except where the
measures ask for it: 20 server connections in transaction mode, and room for
all clients. HAProxy has one thread, as PgBouncer can have no more.

Never keeps state from one start to the next.
"""

import os
import re
import shutil
import signal
import subprocess

import processes
import server

UP_SECONDS = 20
WORDS_MAX = 400
CLIENTS_SPARE = 100
SERVER_CONNECTIONS = 20


class Contender:
    """A proxy of one process, with whatever threads and children it has."""

    name = ""
    what = ""
    tls = ""  # how a client begins TLS, in the words of `wire.connect`
    writes_only = False  # whether it differs from another contender only in how it treats writes
    pools = False  # whether it needs fewer server connections than it has clients

    def __init__(self, place):
        self.place, self.process, self.is_up = place, None, False
        self.port, self.tls_port = place.ports(2)
        self.dir = os.path.join(place.folder, self.name)

    def missing(self):
        """Why it cannot take part; empty if it can."""
        program = self.program()
        return "" if program and os.access(program, os.X_OK) else f"no program: {self.needs}"

    def start(self):
        os.makedirs(self.dir, exist_ok=True)
        processes.owned_by_server_user(self.dir)
        command = processes.as_server_user(self.command(self._copy()))
        log = os.path.join(self.dir, "log")
        if os.path.exists(log):
            os.remove(log)
        self.process = processes.start(command, log, cwd=self.dir)
        processes.wait_until(self._answers, UP_SECONDS, f"{self.name} answers")
        self.is_up = True

    def _copy(self):
        """The user `postgres` may not be able to reach the program; it can reach this copy."""
        copied = os.path.join(self.dir, "program")
        shutil.copy(self.program(), copied)
        return copied

    def _answers(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended: {self.last_words()}")
        return server.answers(self.port)

    def last_words(self):
        with open(os.path.join(self.dir, "log"), errors="replace") as log:
            return " ".join(log.read()[-WORDS_MAX:].split())

    def pids(self):
        return processes.family(self.process.pid) if self.process else []

    def stop(self):
        """At once: it has nothing to save, and some would wait for their clients."""
        if self.process:
            processes.end(self.process, signal.SIGKILL)
        self.process, self.is_up = None, False

    def write(self, name, text):
        """A file that only its owner, the server's user, may read."""
        path = os.path.join(self.dir, name)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        processes.owned_by_server_user(path)
        return path

    def certificate(self):
        """Paths of a certificate and its key, which this contender owns."""
        return [self.write(name, self.place.certificate[name]) for name in ("cert.pem", "key.pem")]

    def version(self):
        done = subprocess.run([self.program(), "--version"], capture_output=True, text=True)
        return done.stdout.splitlines()[0] if done.stdout else "unknown"


class Direct(Contender):
    name, what = "direct", "no proxy"

    def missing(self):
        return ""

    def start(self):
        self.port, self.is_up = self.place.server_port, True

    def version(self):
        return "PostgreSQL itself"


class Floor(Contender):
    name, what, needs = "floor", "bare epoll relay, the floor", "is a C compiler installed?"

    def program(self):
        return self.place.floor

    def command(self, program):
        return [program, str(self.port), str(self.place.server_port)]

    def version(self):
        return "`bench/floor.c`, `cc -O2`"


HAPROXY = """global
    maxconn {clients}
    nbthread 1
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen postgres
    bind 127.0.0.1:{port}
    bind 127.0.0.1:{tls_port} ssl crt {certificate}
    server postgres 127.0.0.1:{server_port}
"""


class HaProxy(Contender):
    name, what, needs = "haproxy", "HAProxy, mode tcp", "see tools/install"
    tls = "direct"  # it does not know how PostgreSQL's clients ask for TLS

    def program(self):
        return shutil.which("haproxy")

    def command(self, program):
        both = self.write("both.pem", self.place.certificate["cert.pem"] + self.place.certificate["key.pem"])
        text = HAPROXY.format(clients=self.place.clients + CLIENTS_SPARE, port=self.port, tls_port=self.tls_port, certificate=both,
                              server_port=self.place.server_port)
        return [program, "-db", "-f", self.write("haproxy.cfg", text)]

    def version(self):
        done = subprocess.run([self.program(), "-v"], capture_output=True, text=True)
        return re.sub(r"^HAProxy version (\S+).*", r"HAProxy \1", done.stdout.splitlines()[0])


PGBOUNCER = """[databases]
* = host=127.0.0.1 port={server_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = transaction
default_pool_size = {size}
max_client_conn = {clients}
client_tls_sslmode = allow
client_tls_cert_file = {cert}
client_tls_key_file = {key}
log_connections = 0
log_disconnections = 0
"""


class PgBouncer(Contender):
    name, what, needs, pools = "pgbouncer", "PgBouncer", "see bench/pgbouncer", True
    tls = "asked"

    def __init__(self, place):
        super().__init__(place)
        self.tls_port = self.port

    def program(self):
        return self.place.pgbouncer

    def command(self, program):
        cert, key = self.certificate()
        users = self.write("users.txt", f'"{server.wire.USER}" ""\n')
        text = PGBOUNCER.format(server_port=self.place.server_port, port=self.port, users=users, cert=cert, key=key,
                                size=SERVER_CONNECTIONS, clients=self.place.clients + CLIENTS_SPARE)
        return [program, self.write("pgbouncer.ini", text)]


TANIST = """listen = ["127.0.0.1:{port}"]

[auth]
kind = "trust"

[tls]
cert = "{cert}"
key = "{key}"

[[server]]
address = "127.0.0.1:{server_port}"

[pool]
mode = "transaction"
size = {size}
{more}"""


class Tanist(Contender):
    name, what, needs, pools = "tanist", "Tanist's proxy", "build the release", True
    tls = "asked"
    more = ""  # lines for the table [pool]

    def __init__(self, place):
        super().__init__(place)
        self.tls_port = self.port

    def missing(self):
        absent = super().missing()
        if absent:
            return absent
        asked = subprocess.run([self.program(), "proxy", "--help"], capture_output=True)
        return "" if asked.returncode == 0 else "this program has no verb `proxy`"

    def program(self):
        return self.place.binary

    def command(self, program):
        cert, key = self.certificate()
        text = TANIST.format(port=self.port, server_port=self.place.server_port, cert=cert, key=key,
                             size=SERVER_CONNECTIONS, more=self.more)
        return [program, "proxy", "--config", self.write("proxy.toml", text)]


class TanistResolving(Tanist):
    name, what, writes_only = "tanist-resolve", "Tanist's proxy, `resolve_autocommit = true`", True
    more = "resolve_autocommit = true\n"


class TanistNotResolving(Tanist):
    name, what, writes_only = "tanist-no-resolve", "Tanist's proxy, `resolve_autocommit = false`", True
    more = "resolve_autocommit = false\n"


ALL = {kind.name: kind for kind in
       (Direct, Floor, HaProxy, PgBouncer, Tanist, TanistResolving, TanistNotResolving)}
