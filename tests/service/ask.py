#!/usr/bin/env python3
"""Asks the `exclusive.py` of a node that runs. Python 3, standard library.

    ask.py SHARED PATH     prints what it answers; exit 0 if that is a 200

Every agent of a test asks all the time: the client of the standard library takes longer to load than the answer to come.
"""

import os
import socket
import sys

SHARED, PATH = sys.argv[1:]

try:
    with open(os.path.join(SHARED, f"{os.environ['SNAPKIT_NODE']}.port"), encoding="utf-8") as port:
        address = ("127.0.0.1", int(port.read()))
    with socket.create_connection(address, timeout=4) as connection:
        connection.sendall(f"GET {PATH} HTTP/1.0\r\n\r\n".encode())
        with connection.makefile("rb") as answer:
            head, _, body = answer.read().partition(b"\r\n\r\n")
except OSError as error:
    sys.exit(str(error))
if head.split()[1:2] != [b"200"]:
    sys.exit(head.decode())
print(body.decode(), end="")
