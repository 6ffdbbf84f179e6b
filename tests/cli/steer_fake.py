"""A server's control socket with canned answers: steer_fake.py SOCKET DIRECTORY [REAL_SOCKET]

DIRECTORY/VERB.json is the answer to that verb, read anew each time; DIRECTORY/VERB.sh is run first, or with a name VERB.after.sh behind the
answer. Requests are added to DIRECTORY/asked, one a line, their keys sorted. What is not about rollouts goes to the real server; other verbs
are refused. Ends with its standard input.
"""

import json
import os
import socket
import subprocess
import sys
import threading


def read_line(connection):
    line = b""
    while not line.endswith(b"\n"):
        piece = connection.recv(65536)
        if not piece:
            return None
        line += piece
    return line


def run(path):
    if os.path.exists(path):
        subprocess.run(["bash", path], check=False)


def answer_of(line, directory, real):
    request = json.loads(line)
    path = os.path.join(directory, request["verb"])
    if os.path.exists(path + ".json"):
        with open(os.path.join(directory, "asked"), "a", encoding="utf-8") as asked:
            asked.write(json.dumps(request, sort_keys=True) + "\n")
        run(path + ".sh")
        with open(path + ".json", encoding="utf-8") as canned:
            return json.dumps(json.load(canned)).encode() + b"\n"
    if real is None or request["verb"] not in ("ping", "status", "history", "show", "stats"):
        return b'{"ok":false,"code":"usage","message":"no such verb"}\n'
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(real)
        other.sendall(line)
        return read_line(other)


def serve(connection, directory, real):
    with connection:
        while (line := read_line(connection)) is not None:
            connection.sendall(answer_of(line, directory, real))
            run(os.path.join(directory, json.loads(line)["verb"] + ".after.sh"))


def accept(listener, directory, real):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, directory, real), daemon=True).start()


def main():
    real = sys.argv[3] if len(sys.argv) > 3 else None
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    listener.listen(16)
    threading.Thread(target=accept, args=(listener, sys.argv[2], real), daemon=True).start()
    sys.stdin.read()


main()
