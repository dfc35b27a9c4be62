"""As much of PostgreSQL's protocol as a client needs that must cost next to nothing.

A driver decodes rows and keeps buffers; measured beside a proxy on the same
cores, its work would drown the proxy's. Here rows are counted in bytes.

Knows no password: every contender trusts the loopback.
"""

import socket
import ssl
import struct

USER = "postgres"
READ_BYTES = 1 << 20
ANSWER_SECONDS = 120
READY = b"Z\0\0\0\5I"


class Refused(Exception):
    """The other side said no, in words."""


def connect(port, tls=""):
    """A session that is ready for queries; `tls` is how it begins: "", "asked" or "direct"."""
    client = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls == "asked":
        client.sendall(struct.pack("!II", 8, 80877103))
        if client.recv(1) != b"S":
            raise Refused("no TLS")
    if tls:
        client = CONTEXT.wrap_socket(client)
    words = f"user\0{USER}\0database\0postgres\0\0".encode()
    client.sendall(struct.pack("!II", 8 + len(words), 3 << 16) + words)
    until_ready(client)
    return client


def trusting():
    """TLS without a look at the certificate: it is ours, made for this run."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


CONTEXT = trusting()


def send_query(client, sql):
    words = sql.encode() + b"\0"
    client.sendall(b"Q" + struct.pack("!I", 4 + len(words)) + words)


def query(client, sql):
    """Bytes of the answer."""
    send_query(client, sql)
    return until_ready(client)


def until_ready(client):
    """Reads until the server waits for the next query; how many bytes that were."""
    buffer, count, tail = memoryview(bytearray(READ_BYTES)), 0, b""
    # Rows are text, so these six bytes at the end of a read can be nothing else.
    while tail != READY:
        got = client.recv_into(buffer)
        if got == 0:
            raise Refused(f"closed by the other side: {printable(buffer[:200])}")
        if count == 0 and buffer[0] == ord("E"):
            raise Refused(printable(buffer[:got]))
        count += got
        tail = (tail + bytes(buffer[max(0, got - len(READY)):got]))[-len(READY):]
    return count


def printable(text):
    return "".join(chr(byte) if 32 <= byte < 127 else " " for byte in text).strip()


def close(client):
    """As libpq does: says so first."""
    try:
        client.sendall(b"X\0\0\0\4")
    except OSError:
        pass
    client.close()
