#!/usr/bin/env bash
# waitress 3.0.2: the application is called only when the whole body has arrived, so it cannot refuse one by its header.
#
# Expected: as with other WSGI servers, the application is called after the header and reads `wsgi.input` when it wants
# to. A client that asks first (Expect: 100-continue) is invited to send only if the application reads.
# Seen: with all but one byte of 4 MB sent the application has not been called, and it is called after the last byte. A
# client that asks is invited at once, before any code of the application runs.
# What follows for vidclf: a check of size or load in a Flask handler protects nothing. The server refuses in the parser
# of the header (`vidclf/server/wsgi_server.py`).
#
# Usage: findings/waitress_reads_body_first.sh   (installs into a temporary directory; exit code 1 if this changes)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install --quiet --disable-pip-version-check --no-compile \
    waitress==3.0.2
cd "$work"
"$work/venv/bin/python" - <<'PY'
import socket
import sys
import threading
import time

from waitress.server import create_server

calls = []


def application(environ, start_response):
    """Refuses every request, without reading its body."""
    calls.append(environ["CONTENT_LENGTH"])
    start_response("413 Content Too Large", [("Content-Length", "0")])
    return [b""]


server = create_server(application, host="127.0.0.1", port=0, threads=1)
threading.Thread(target=server.run, daemon=True).start()
size = 4_000_000
header = f"POST / HTTP/1.1\r\nHost: example\r\nContent-Length: {size}\r\n"
client = socket.create_connection(("127.0.0.1", server.effective_port))
client.sendall(f"{header}\r\n".encode() + bytes(size - 1))
time.sleep(2)
before_last_byte = len(calls)
client.sendall(b"x")
status = client.recv(100).split(b"\r\n")[0].decode()
after_last_byte = len(calls)

asking = socket.create_connection(("127.0.0.1", server.effective_port))
asking.sendall(f"{header}Expect: 100-continue\r\n\r\n".encode())
invitation = asking.recv(100).split(b"\r\n")[0].decode()
print(f"calls before the last byte: {before_last_byte}, after it: {after_last_byte} ({status})")
print(f"answer to a client that asks: {invitation}, calls: {len(calls)}")
is_as_seen = (before_last_byte, after_last_byte, len(calls)) == (0, 1, 1) and invitation == "HTTP/1.1 100 Continue"
sys.exit(0 if is_as_seen else "the behaviour has changed")
PY
echo "as described"
