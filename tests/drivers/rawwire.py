"""Messages of PostgreSQL's protocol, byte by byte, and transcripts of the answers.

No driver: drivers never send what is tested here. A transcript leaves out what
may differ between two servers that behave the same: processes, keys, and the
places in PostgreSQL's source that an error names.
"""

import select
import socket
import struct
import time

V30 = 196608
V32 = 196610
GREASE = (3 << 16) | 9999
SSL_REQUEST = struct.pack("!ii", 8, 80877103)
GSS_REQUEST = struct.pack("!ii", 8, 80877104)


def msg(tag, body=b""):
    return tag + struct.pack("!i", len(body) + 4) + body


def cstr(text):
    return (text.encode() if isinstance(text, str) else text) + b"\0"


def Q(text):
    return msg(b"Q", cstr(text))


def P(name, text, types=()):
    return msg(b"P", cstr(name) + cstr(text) + struct.pack("!h", len(types)) + b"".join(struct.pack("!I", t) for t in types))


def B(portal="", name="", values=(), formats=(), results=()):
    body = cstr(portal) + cstr(name)
    body += struct.pack("!h", len(formats)) + b"".join(struct.pack("!h", f) for f in formats)
    body += struct.pack("!h", len(values))
    for value in values:
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
    return msg(b"B", body + struct.pack("!h", len(results)) + b"".join(struct.pack("!h", f) for f in results))


def D(kind, name=""):
    return msg(b"D", kind.encode() + cstr(name))


def C(kind, name=""):
    return msg(b"C", kind.encode() + cstr(name))


def X(portal="", rows=0):
    return msg(b"E", cstr(portal) + struct.pack("!i", rows))


def F(oid, *values):
    body = struct.pack("!Ihh", oid, 0, len(values))
    body += b"".join(struct.pack("!i", len(v)) + v for v in values)
    return msg(b"F", body + struct.pack("!h", 0))


S, H, TERM = msg(b"S"), msg(b"H"), msg(b"X")
CDONE = msg(b"c")


def CD(text):
    return msg(b"d", text.encode() if isinstance(text, str) else text)


def CFAIL(why="no more"):
    return msg(b"f", cstr(why))


def startup(version=V30, **settings):
    body = struct.pack("!i", version)
    for name, value in settings.items():
        body += cstr(name) + cstr(value)
    body += b"\0"
    return struct.pack("!i", len(body) + 4) + body


def errors(body):
    """The fields that a client may rely on."""
    fields = [f for f in body.split(b"\0") if f]
    return tuple(f.decode("utf8", "replace") for f in fields if f[:1] not in b"FLRW")


def show(tag, body):
    if tag in "EN":
        return (tag, errors(body))
    if tag == "K":
        return (tag, len(body) - 4)
    if tag == "A":
        return (tag, body[4:])
    return (tag, bytes(body))


class Raw:
    """One socket."""

    def __init__(self, address):
        self.socket = socket.create_connection(address, timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.poll = select.poll()
        self.poll.register(self.socket, select.POLLIN)
        self.input = b""
        self.ended = False
        self.key = None

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError:
            pass

    def fill(self, limit):
        """Whether anything came within so many seconds."""
        if self.ended or not self.poll.poll(limit * 1000):
            return False
        try:
            data = self.socket.recv(1 << 16)
        except OSError:
            data = b""
        self.ended = not data
        self.input += data
        return bool(data)

    def byte(self, limit=1.0):
        """One byte that is no message: the answer to SSLRequest."""
        while not self.input:
            if not self.fill(limit):
                return ("end",) if self.ended else ("silence",)
        one, self.input = self.input[:1], self.input[1:]
        return ("byte", one)

    def take(self):
        """All whole messages that are there."""
        out = []
        while len(self.input) >= 5:
            length = struct.unpack("!i", self.input[1:5])[0]
            if len(self.input) < length + 1:
                break
            tag, body = chr(self.input[0]), self.input[5:length + 1]
            self.input = self.input[length + 1:]
            if tag == "K":
                self.key = body
            out.append(show(tag, body))
        return out

    def listen(self, count=None, quiet=0.15, patience=3.0):
        """What comes until it is quiet; with a count, at least so many messages if they come in time."""
        out, end = [], time.time() + patience
        while True:
            out += self.take()
            if self.ended:
                return out + [("end",)]
            enough = count is not None and len(out) >= count
            if count is not None and not enough and time.time() < end:
                self.fill(0.1)
            elif not self.fill(0.012 if enough else quiet):
                if not self.ended:
                    return out

    def until_ready(self, patience=10.0):
        out, end = [], time.time() + patience
        while not any(m[0] == "Z" for m in out):
            out += self.take()
            if self.ended or time.time() > end:
                return out + [("end",)] if self.ended else out
            if not any(m[0] == "Z" for m in out):
                self.fill(0.2)
        return out

    def close(self):
        try:
            self.socket.close()
        except OSError:
            pass


def connect(address, user="postgres", database="postgres", **settings):
    raw = Raw(address)
    raw.send(startup(user=user, database=database, **settings))
    raw.hello = raw.until_ready()
    return raw
