"""Starts, finds, weighs and ends processes, and waits for conditions.

Everything is ended by pid, and only what belongs to a folder that we made.
Never kills by name, and never waits without a bound that has a name.
"""

import os
import pwd
import signal
import socket
import subprocess
import time

POLL_SECONDS = 0.02
END_SECONDS = 10


class NotInTime(Exception):
    """A condition did not come true within its bound."""


def wait_until(condition, seconds, what, poll=POLL_SECONDS):
    """Polls `condition` until it is true; returns what it returned."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise NotInTime(f"{what}: not within {seconds} s")
        time.sleep(poll)


def as_server_user(command):
    """PostgreSQL refuses to run as root: the command that runs it as `postgres` then."""
    if os.geteuid() != 0:
        return command
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] + command


def owned_by_server_user(path):
    """Hands `path` to the user whom `as_server_user` runs as."""
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(path, user.pw_uid, user.pw_gid)


def start(command, log, **options):
    """Starts a process in a session of its own, so that Ctrl-C reaches only us."""
    with open(log, "ab") as out:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                start_new_session=True, **options)


def end(process, ask=signal.SIGTERM):
    """Ends what `start` started: asks first, then insists."""
    if process.poll() is not None:
        return
    send(process.pid, signal.SIGCONT)
    process.send_signal(ask)
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def send(pid, number):
    """Sends a signal; false if nobody was there."""
    try:
        os.kill(pid, number)
        return True
    except ProcessLookupError:
        return False


def kill_at_once(pids, folder):
    """SIGKILL to `pids` and to every process that works in `folder`, again until none is left."""
    for pid in pids:
        send(pid, signal.SIGKILL)

    def none_left():
        left = working_in(folder)
        for pid in left:
            send(pid, signal.SIGKILL)
        return not left

    wait_until(none_left, END_SECONDS, f"every process of {folder} dead")


def working_in(folder):
    """Pids of the living processes whose working directory is `folder`."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and os.readlink(f"/proc/{entry}/cwd") == str(folder):
                found.append(int(entry))
        except OSError:
            pass
    return found


def agents_of(guard):
    """Pids of the agents below a guard; the kernel may leave one out, so ask again."""
    try:
        with open(f"/proc/{guard}/task/{guard}/children") as file:
            children = [int(pid) for pid in file.read().split()]
        return [pid for pid in children if "agent" in arguments(pid)]
    except OSError:
        return []


def family(pid):
    """Pids of a process and of all below it."""
    found = [pid]
    for parent in found:
        with open(f"/proc/{parent}/task/{parent}/children") as file:
            found += [int(child) for child in file.read().split()]
    return found


def arguments(pid):
    """The command line of a process; empty if it has gone."""
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return file.read().split("\0")
    except OSError:
        return []


def postmaster_of(folder):
    """The pid in postmaster.pid, if that process lives; 0 otherwise."""
    try:
        with open(os.path.join(folder, "postmaster.pid")) as file:
            pid = int(file.readline())
        return pid if pid in working_in(folder) else 0
    except (OSError, ValueError):
        return 0


def ticks(pid):
    """User and system time of a process, in clock ticks."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def field(pid, file_name, name):
    """A field of kB in a file of /proc."""
    with open(f"/proc/{pid}/{file_name}") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith(f"{name}:"))


def private(pid):
    """Memory that nobody shares with this process."""
    return field(pid, "smaps_rollup", "Private_Clean") + field(pid, "smaps_rollup", "Private_Dirty")


def free_ports(count):
    """Ports below those that the kernel gives to outgoing connections."""
    found, port = [], 20_000 + os.getpid() * 97 % 10_000
    while len(found) < count:
        port += 1
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
    return found


def listens(port):
    """Whether somebody takes connections there."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
