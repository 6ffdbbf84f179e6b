#!/usr/bin/env python3
"""A server that gives the answers of a file: for states of rollouts that no real one is brought into at will.

Usage: rollouts_fake.py SOCKET ANSWERS.json

ANSWERS is read anew for each question: {VERB: ANSWER, ...}. Of "rollouts" and "stats" with a flag only that flag is given, and no_such_flag
where it is not there. A verb that the file has not is one that the server does not know. The answer null is none at all: the server is mute.
"""
import json
import os
import socketserver
import sys
import time

LISTS = {"rollouts": "rollouts", "stats": "flags"}


def answer_to(request, path):
    with open(path, encoding="utf-8") as file:
        answers = json.load(file)
    verb, flag = request.get("verb"), request.get("flag")
    if verb not in answers:
        return {"ok": False, "code": "usage", "message": 'this server (release 0.1) does not know "%s"' % verb}
    answer = answers[verb]
    if answer is None or flag is None or verb not in LISTS or not answer.get("ok"):
        return answer
    key = LISTS[verb]
    chosen = [item for item in answer[key] if item["flag"] == flag]
    if not chosen and verb == "rollouts":
        return {"ok": False, "code": "no_such_flag", "message": "there is no flag"}
    return dict(answer, **{key: chosen})


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            answer = answer_to(json.loads(line), sys.argv[2])
            if answer is None:
                time.sleep(60)
                return
            self.wfile.write(json.dumps(answer).encode() + b"\n")


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


if os.path.exists(sys.argv[1]):
    os.unlink(sys.argv[1])
with Server(sys.argv[1], Handler) as server:
    server.serve_forever()
