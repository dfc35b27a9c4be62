"""The machine that figures come from, and how a benchmark speaks while it runs.

A figure without its machine means nothing, so every table opens with this line.

Never changes anything on it.
"""

import datetime
import os
import subprocess
import sys


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M")


def machine():
    """The machine in one line."""
    with open("/proc/cpuinfo") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    with open("/proc/meminfo") as file:
        gigabytes = int(file.readline().split()[1]) / 1e6
    with open("/etc/os-release") as file:
        system = next(line.split("=", 1)[1].strip().strip('"') for line in file if line.startswith("PRETTY_NAME"))
    version = subprocess.run([os.path.join(bin_dir(), "postgres"), "--version"], capture_output=True, text=True)
    server = "PostgreSQL " + version.stdout.split(") ", 1)[1].split()[0]
    return (f"{os.cpu_count()} cores ({names[0] if names else os.uname().machine}), {gigabytes:.0f} GB, {system}, "
            f"Linux {os.uname().release}, {server}")


def bin_dir():
    """The newest PostgreSQL of the distribution's."""
    base = "/usr/lib/postgresql"
    versions = sorted((v for v in os.listdir(base) if v.isdigit()), key=int)
    return os.path.join(base, versions[-1], "bin")
