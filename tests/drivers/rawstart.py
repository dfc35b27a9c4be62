"""What a client may say before it is logged in: versions, options, TLS, garbage."""

import struct

from rawwire import GREASE, GSS_REQUEST, SSL_REQUEST, V30, V32, Q, Raw, startup


def say(target, *stretches, singles=0):
    """What comes after each stretch; so many answers to begin with are single bytes."""
    raw = Raw(target)
    out = []
    for stretch in stretches:
        raw.send(stretch)
        if singles:
            singles -= 1
            out.append([raw.byte()])
        else:
            out.append(raw.listen(quiet=0.4))
    raw.close()
    return out


U = {"user": "postgres", "database": "postgres"}
GOOD = {
    "3.0": ([startup(V30, **U), Q("select 1")], 0),
    "user only": ([startup(V30, user="postgres"), Q("select current_database()")], 0),
    "settings": ([startup(V30, **U, application_name="raw", DateStyle="German", timezone="Asia/Tokyo", work_mem="5MB"), Q("show work_mem"), Q("show datestyle"), Q("show timezone")], 0),
    "settings reset": ([startup(V30, **U, application_name="raw", work_mem="5MB"), Q("set work_mem='6MB'; reset work_mem"), Q("show work_mem"), Q("reset all"), Q("show application_name"), Q("discard all"), Q("show work_mem")], 0),
    "options": ([startup(V30, **U, options="-c work_mem=5MB -c my.own=a\\ b"), Q("show work_mem"), Q("show my.own"), Q("reset my.own"), Q("show my.own")], 0),
    "options, dashes": ([startup(V30, **U, options="--search-path=raw_s,public --work_mem=7MB"), Q("show search_path"), Q("show work_mem")], 0),
    "search_path": ([startup(V30, **U, search_path='"$user", raw_s'), Q("show search_path"), Q("reset search_path"), Q("show search_path")], 0),
    "encoding": ([startup(V30, **U, client_encoding="LATIN1"), Q("show client_encoding"), Q("select chr(228)")], 0),
    "encoding in quotes": ([startup(V30, **U, client_encoding="'utf-8'"), Q("show client_encoding")], 0),
    "bad setting": ([startup(V30, **U, work_mem="nonsense"), Q("select 1")], 0),
    "unknown setting": ([startup(V30, **U, nonsense="1"), Q("select 1")], 0),
    "server-wide setting": ([startup(V30, **U, max_connections="7"), Q("select 1")], 0),
    "no such database": ([startup(V30, user="postgres", database="raw_nobody")], 0),
    "no such user": ([startup(V30, user="raw_nobody", database="postgres")], 0),
    "no user": ([startup(V30, database="postgres")], 0),
    "database may not be entered": ([startup(V30, user="postgres", database="template0")], 0),
    "very long name": ([startup(V30, user="u" * 200, database="postgres")], 0),
    "ssl": ([SSL_REQUEST, startup(V30, **U), Q("select 1")], 1),
    "query right behind": ([startup(V30, **U) + Q("select 1")], 0),
    "_pq_ options": ([startup(V30, **U, **{"_pq_.command_tag": "on", "_pq_.x": "1"}), Q("select 1")], 0),
}
# Of these PostgreSQL 15 to 18 differ in words; an error and the end, or the end alone, is all that counts.
REFUSED = {
    "ssl twice": ([SSL_REQUEST, SSL_REQUEST], 1),
    "version 2.0": ([startup(2 << 16, user="postgres")], 0),
    "version 4.0": ([startup(4 << 16, user="postgres")], 0),
    "unknown option": ([startup(V30, **U, options="-z 1")], 0),
    "no such request": ([struct.pack("!ii", 8, 80877199)], 0),
    "length 0": ([struct.pack("!ii", 0, V30)], 0),
    "length 4": ([struct.pack("!i", 4)], 0),
    "length negative": ([struct.pack("!ii", -5, V30)], 0),
    "length 10001": ([struct.pack("!ii", 10001, V30) + b"x" * 9993], 0),
    "length huge": ([struct.pack("!ii", 0x7FFFFFFF, V30)], 0),
    "no end of the list": ([struct.pack("!ii", 22, V30) + b"user\0postgres\0"], 0),
    "bytes behind the end": ([struct.pack("!ii", 26, V30) + b"user\0postgres\0\0abc"], 0),
    "odd list": ([struct.pack("!ii", 14, V30) + b"user\0\0"], 0),
    "http": ([b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"], 0),
    "cancel, short": ([struct.pack("!iii", 12, 80877102, 1)], 0),
    "cancel of nobody": ([struct.pack("!iiii", 16, 80877102, 1, 2)], 0),
    "cancel, long": ([struct.pack("!iii", 280, 80877102, 1) + b"k" * 268], 0),
}


def order(part):
    """ParameterStatus may come in any order, and a login that fails may fail before it is believed."""
    status = sorted(m for m in part if m[0] == "S")
    rest = [m for m in part if m[0] != "S"]
    fails = any(m[0] == "E" for m in rest) and rest[0] == ("R", b"\0\0\0\0")
    return status + rest[1 if fails else 0:]


def checks(args, report):
    for name, (script, singles) in GOOD.items():
        if args.only not in f"start: {name}":
            continue
        direct = [order(p) for p in say(args.direct, *script, singles=singles)]
        for proxy in args.proxy:
            got = [order(p) for p in say(proxy, *script, singles=singles)]
            report.same(f"{proxy[1]} start: {name}", direct, got)
    for name, (script, singles) in REFUSED.items():
        if args.only not in f"start: {name}":
            continue
        direct = say(args.direct, *script, singles=singles)
        for proxy in args.proxy:
            got = say(proxy, *script, singles=singles)
            report.check(f"{proxy[1]} start: {name}", refused(got) == refused(direct), f"    PostgreSQL: {direct}\n    proxy: {got}")
    without_example(args, report)
    every_cut(args, report)


def refused(parts):
    last = parts[-1]
    return ("end",) in last and not any(m[0] == "Z" for m in last)


def without_example(args, report):
    """Only PostgreSQL 18 knows 3.2, and some speak GSS: what the documentation says instead."""
    for proxy in args.proxy:
        for name, version in (("3.2", V32), ("3.9999", GREASE)):
            [got] = say(proxy, startup(version, **U, **({"_pq_.x": "1"} if version == GREASE else {})))
            asks = [m[1] for m in got if m[0] == "v"]
            told = [] if version == V32 else [struct.pack("!ii", V32, 1) + b"_pq_.x\0"]
            good = ("K", 32) in got and got[-1] == ("Z", b"I") and asks == told
            report.check(f"{proxy[1]} start: version {name} has a key of 32 bytes", good, f"    {got}")
        for script, singles in (([GSS_REQUEST], 1), ([GSS_REQUEST, SSL_REQUEST], 2), ([SSL_REQUEST, GSS_REQUEST], 2)):
            got = say(proxy, *script, startup(V30, **U) + Q("select 1"), singles=singles)
            good = got[:singles] == [[("byte", b"N")]] * singles and any(m[0] == "D" for m in got[-1])
            report.check(f"{proxy[1]} start: {singles} requests for encryption, GSS among them", good, f"    {got}")


def every_cut(args, report):
    """A startup in two packets, cut at every byte, after SSLRequest."""
    if args.only not in "start: every cut":
        return
    whole = startup(V30, **U)
    for proxy in args.proxy:
        wrong = []
        for cut in range(1, len(whole)):
            raw = Raw(proxy)
            raw.send(SSL_REQUEST[:cut % 8])
            raw.fill(0.001)
            raw.send(SSL_REQUEST[cut % 8:])
            answer = raw.byte()
            raw.send(whole[:cut])
            raw.fill(0.001)
            raw.send(whole[cut:] + Q("select 1"))
            got = raw.until_ready() + raw.listen(4, quiet=0.3)
            if answer != ("byte", b"N") or not any(m[0] == "D" for m in got):
                wrong.append(cut)
            raw.close()
        report.check(f"{proxy[1]} start: every cut", not wrong, f"    {wrong}")
