#!/usr/bin/env python3
"""A service that must have one leader, for the tests of failover. Python 3, standard library.

    exclusive.py SHARED --lead | --follow     runs until it is ended

As leader it locks SHARED/exclusive, which the kernel gives to one process and takes from a dead one, and appends a line to
SHARED/conflicts when somebody else has it. It appends numbered lines to its state, each forced to disk, and then to
SHARED/writes, where everybody's stand in their true order. It answers /ready, /role, /instance, /work, and what probes ask,
on the port in SHARED/NODE.listen or one of the system's choice, which it writes into SHARED/NODE.port.
`ask.py` beside this one asks it.

Files of the test: SHARED/NODE.not-ready (it answers 503 meanwhile), SHARED/NODE.ignores-term (when it is started),
SHARED/NODE.quiet (writes nothing meanwhile, and says so in SHARED/NODE.is-quiet), SHARED/NODE.active (how much work it says
it has not ended).
"""

import fcntl
import http.server
import json
import os
import signal
import sys
import threading
import time

SHARED = sys.argv[1]
NODE = os.environ["SNAPKIT_NODE"]
ROLE = os.environ["SNAPKIT_ROLE"]
TERM = int(os.environ["SNAPKIT_TERM"])
STATE = os.path.join(os.environ["SNAPKIT_NODE_DIR"], "current", "lines")


def shared(name):
    return os.path.join(SHARED, name)


def said(name):
    return os.path.exists(shared(f"{NODE}.{name}"))


def number(name):
    """What a file of the test says in one number; 0 without it."""
    try:
        with open(shared(f"{NODE}.{name}"), encoding="utf-8") as file:
            return int(file.read())
    except FileNotFoundError:
        return 0


def append(path, value):
    # One write of one line, behind whatever others wrote meanwhile.
    line = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(line, (json.dumps(value) + "\n").encode())
    os.fsync(line)
    os.close(line)


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        code, text = 200, ""
        if self.path == "/role":
            text = ROLE
        elif self.path == "/instance":
            text = json.dumps({"node": NODE, "role": ROLE, "term": TERM, "pid": os.getpid(), "n": count})
        elif self.path == "/work":
            text = json.dumps({"active": number("active")})
        elif self.path == "/healthz":
            text = "ok"
        elif self.path == "/rolez":
            text = {"leader": "leader", "follower": "standby"}[ROLE]
        elif self.path in ("/ready", "/readyz"):
            code, text = (503, "not ready") if said("not-ready") else (200, "ready")
        else:
            code = 404
        self.send_response(code)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


def lead():
    global count
    exclusive = os.open(shared("exclusive"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(exclusive, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(exclusive, 0)
        os.pwrite(exclusive, f"{NODE} in term {TERM}".encode(), 0)
    except BlockingIOError:
        by = os.pread(exclusive, 1000, 0).decode()
        append(shared("conflicts"), {"node": NODE, "term": TERM, "held_by": by, "at": time.time()})
    if os.path.exists(STATE):
        with open(STATE, encoding="utf-8") as lines:
            count = max((json.loads(line)["n"] for line in lines if line.endswith("\n")), default=0)
    while True:
        if said("quiet"):
            open(shared(f"{NODE}.is-quiet"), "w", encoding="utf-8").close()
        else:
            line = {"term": TERM, "n": count + 1, "node": NODE, "at": time.time()}
            append(STATE, line)
            append(shared("writes"), line)
            count += 1
        time.sleep(0.05)


def run(role):
    if role != {"leader": "--lead", "follower": "--follow"}[ROLE]:
        sys.exit(f"started with {role} as {ROLE}")
    if ROLE == "follower" and os.environ.get("SNAPKIT_EXCLUSIVE"):
        append(shared("conflicts"), {"node": NODE, "term": TERM, "exclusive": "passed to a follower"})
    if said("ignores-term"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", number("listen")), Answers)
    temporary = shared(f"{NODE}.port.new")
    with open(temporary, "w", encoding="utf-8") as port:
        port.write(str(server.server_address[1]))
    os.rename(temporary, shared(f"{NODE}.port"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    if ROLE == "leader":
        lead()
    while True:
        time.sleep(3600)


count = 0
run(sys.argv[2])
