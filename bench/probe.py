"""The probe: four clients that write all the time, and a ledger of every acknowledged row.

Each client inserts one numbered row per 2 ms with autocommit and reconnects at
once on an error (`connect_timeout=2`, so a connect that hangs costs 2 s: that
is what a client sees). A row is in the ledger only after its acknowledgement,
with the server that gave it.

Never retries a row: what was not acknowledged is neither lost nor kept.
"""

import os
import socket
import threading
import time

import psycopg2

CLIENTS = 4
PERIOD_SECONDS = 0.002
JOIN_SECONDS = 5
CATCH_UP_SECONDS = 90
MESSAGE_LINES = 3
NUMBERS_PER_CLIENT = 1_000_000_000
TABLE = "create table if not exists bench (run int, id bigint, primary key (run, id))"


class Probe:
    """Four writers of one run; `acks` is (asked, acknowledged, server, id)."""

    def __init__(self, dsn, run):
        self.dsn, self.run = dsn, run
        self.acks, self.errors, self.messages = [], 0, {}
        self._stopping = threading.Event()
        self._connections = [None] * CLIENTS
        self._threads = [threading.Thread(target=self._client, args=(i,), daemon=True)
                         for i in range(CLIENTS)]

    def start(self):
        for thread in self._threads:
            thread.start()

    def stop(self):
        """Stops all writers; one that hangs is cut off at its socket."""
        self._stopping.set()
        end = time.monotonic() + JOIN_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        for connection in self._connections:
            cut_off(connection)
        for thread in self._threads:
            thread.join(JOIN_SECONDS)

    def last_ack(self):
        """When the newest acknowledgement came; 0 before the first."""
        return max((ack[1] for ack in self.acks[-CLIENTS:]), default=0.0)

    def _client(self, i):
        number = i * NUMBERS_PER_CLIENT
        connection = None
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                if connection is None:
                    connection, cursor, server = self._connect(i)
                number += 1
                asked = time.monotonic()
                cursor.execute("insert into bench values (%s, %s)", (self.run, number))
                self.acks.append((asked, time.monotonic(), server, number))
            except psycopg2.Error as error:
                self._failed(error)
                connection = dropped(connection)
            time.sleep(max(0.0, began + PERIOD_SECONDS - time.monotonic()))
        dropped(connection)

    def _connect(self, i):
        connection = psycopg2.connect(self.dsn)
        connection.autocommit = True
        self._connections[i] = connection
        cursor = connection.cursor()
        cursor.execute("select coalesce(host(inet_server_addr()), ''), inet_server_port()")
        host, port = cursor.fetchone()
        return connection, cursor, f"{host}:{port}"

    def _failed(self, error):
        if not self._stopping.is_set():
            self.errors += 1
            words = " | ".join(str(error).split("\n")[:MESSAGE_LINES]) or type(error).__name__
            self.messages[words] = self.messages.get(words, 0) + 1


def answer(dsn, statement):
    """One statement over a connection of its own; its first row, if it has any."""
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone() if cursor.description else None
    finally:
        connection.close()


def dropped(connection):
    """Closes what can be closed; always nothing."""
    try:
        if connection is not None:
            connection.close()
    except psycopg2.Error:
        pass


def cut_off(connection):
    """Ends a client's wait by shutting its socket."""
    try:
        if connection is not None and not connection.closed:
            with socket.socket(fileno=os.dup(connection.fileno())) as copy:
                copy.shutdown(socket.SHUT_RDWR)
    except (OSError, psycopg2.Error):
        pass


def longest_gap(acks, since, until):
    """Longest time without any acknowledgement from just before `since` up to `until`, in seconds."""
    times = sorted(ack[1] for ack in acks if ack[1] <= until)
    before = [t for t in times if t < since]
    marks = ([before[-1]] if before else [since]) + [t for t in times if t >= since] + [until]
    return max(b - a for a, b in zip(marks, marks[1:]))


def servers_in_turn(acks):
    """Who acknowledged, in order: a server that comes twice took over again, or two did so side by side."""
    turns = []
    for asked, _, server, _ in sorted(acks):
        if not turns or turns[-1] != server:
            turns.append(server)
    return turns


def missing_rows(acks, run, members, leader_dsn):
    """Reads every member back by itself: name -> acknowledged rows that it lacks."""
    end = time.monotonic() + CATCH_UP_SECONDS
    position = answer(leader_dsn, "select pg_current_wal_flush_lsn()")[0]
    acknowledged = {ack[3] for ack in acks}
    missing = {}
    for name, dsn in members.items():
        connection = psycopg2.connect(dsn)
        connection.autocommit = True
        with connection.cursor() as cursor:
            while not has_replayed(cursor, position) and time.monotonic() < end:
                time.sleep(0.05)
            cursor.execute("select id from bench where run = %s", (run,))
            missing[name] = len(acknowledged - {row[0] for row in cursor})
        connection.close()
    return missing


def has_replayed(cursor, position):
    """Whether this server is the leader, or has replayed up to `position`."""
    cursor.execute("select not pg_is_in_recovery() or pg_last_wal_replay_lsn() >= %s::pg_lsn", (position,))
    return cursor.fetchone()[0]
