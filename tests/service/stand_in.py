#!/usr/bin/env python3
"""Servers that stand in for what bootstrap probes and did not write: ingress, control API, nodes. Python 3, standard library.

    stand_in.py DIRECTORY NAME...     serves until it is ended

Each NAME is a server on a port of its own of 127.0.0.1; the ports are in DIRECTORY/ports.json as soon as all serve. What NAME
answers is in DIRECTORY/NAME.json, read anew for each request: {"/path": {"status": 200, "body": "ok", "headers": {}}}. Any other
path is a 404. Each request is a line of DIRECTORY/NAME.requests: method, path, Authorization header or "-".
"""

import http.server
import json
import os
import sys
import threading

DIRECTORY = sys.argv[1]


def handler(name):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            with open(os.path.join(DIRECTORY, f"{name}.requests"), "a", encoding="utf-8") as log:
                log.write(f"{self.command} {self.path} {self.headers.get('authorization', '-')}\n")
            with open(os.path.join(DIRECTORY, f"{name}.json"), encoding="utf-8") as file:
                answer = json.load(file).get(self.path, {"status": 404, "body": "not here"})
            body = answer.get("body", "").encode()
            self.send_response(answer.get("status", 200))
            for key, value in answer.get("headers", {}).items():
                self.send_header(key, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    return Handler


ports = {}
for name in sys.argv[2:]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(name))
    ports[name] = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
with open(os.path.join(DIRECTORY, "ports.new"), "w", encoding="utf-8") as file:
    json.dump(ports, file)
os.rename(os.path.join(DIRECTORY, "ports.new"), os.path.join(DIRECTORY, "ports.json"))
threading.Event().wait()
