"""Threads, forks, multiprocessing and pre-fork servers: one handle, one table, one step."""

import http.client
import importlib.util
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

from support import FLAG, Server, flag, seed, wait_until

USERS = [f"user-{number}" for number in range(2000)]


def expected(pct):
    return [seed(FLAG, user, pct) for user in USERS]


def decide_all(flags):
    return [flags.in_variant(FLAG, user) for user in USERS]


def decide_by_decision(flags, decision):
    """In another process: decides anew, and sends the decision back."""
    return flags.decide(FLAG, "user-1") == decision, decision


class Processes(unittest.TestCase):
    def setUp(self):
        self.server = Server({FLAG: flag(50)})
        self.addCleanup(self.server.close)
        self.flags = self.server.flags()

    def in_child(self, function):
        """What the function says in a forked child."""
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(writing, json.dumps(function()).encode())
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as answer:
            text = answer.read()
        self.assertEqual(os.waitpid(pid, 0)[1], 0)
        return json.loads(text)

    def test_a_forked_child_goes_on_with_the_handle(self):
        self.flags.in_variant(FLAG, "user-1")  # the name is resolved before the fork
        self.assertEqual(self.in_child(lambda: decide_all(self.flags)), expected(50))

        def after_an_edit():
            seen = self.flags.version
            os.kill(os.getppid(), signal.SIGUSR1)
            return [self.flags.wait(seen, 20), decide_all(self.flags)]

        older = signal.signal(signal.SIGUSR1, lambda *_: self.server.write({FLAG: flag(25)}))
        try:
            self.assertEqual(self.in_child(after_an_edit), [True, expected(25)])
        finally:
            signal.signal(signal.SIGUSR1, older)
        self.assertEqual(decide_all(self.flags), expected(25))

    def test_a_fork_beside_a_sleeper_and_a_decider_is_sound(self):
        stop, sleeper = threading.Event(), threading.Thread(target=lambda: self.flags.wait(None, 60))

        def decide():
            while not stop.is_set():
                decide_all(self.flags)

        deciders = [threading.Thread(target=decide) for _ in range(2)]
        sleeper.start()
        for thread in deciders:
            thread.start()

        def child():
            result = decide_all(self.flags)
            self.flags.close()  # the sleeper is not in this process
            return result

        for _ in range(20):
            self.assertEqual(self.in_child(child), expected(50))
        stop.set()
        for thread in deciders:
            thread.join(20)
        self.server.write({FLAG: flag(25)})
        sleeper.join(20)
        self.assertFalse(sleeper.is_alive())

    def test_multiprocessing_with_each_way_to_start(self):
        for method in ("fork", "spawn", "forkserver"):
            with self.subTest(method):
                context = multiprocessing.get_context(method)
                decision = self.flags.decide(FLAG, "user-1")
                with context.Pool(2) as pool:
                    same, back = pool.apply(decide_by_decision, (self.flags, decision))
                    self.assertTrue(same)
                    self.assertEqual(back, decision)
                    self.assertEqual(pool.apply(decide_all, (self.flags,)), expected(50))
                    pool.close()
                    pool.join()

    def test_threads_share_one_handle_over_edits(self):
        shares = {5, 25, 50, 75}
        answers = {pct: expected(pct) for pct in shares}
        stop, wrong, rounds = threading.Event(), [], [0]

        def decide(number):
            user_numbers = range(number, len(USERS), 4)
            while not stop.is_set():
                for at in user_numbers:
                    decision = self.flags.decide(FLAG, USERS[at])
                    pct = int(decision.rollout_pct)
                    if pct not in shares or decision.in_variant != answers[pct][at]:
                        wrong.append((USERS[at], decision))
                rounds[0] += 1

        with ThreadPoolExecutor(4) as pool:
            done = [pool.submit(decide, number) for number in range(4)]
            for pct in (5, 25, 75, 50, 5, 75):
                self.server.edit({FLAG: flag(pct)})
                time.sleep(0.02)
            stop.set()
            for future in done:
                future.result(20)
        self.assertEqual(wrong, [])
        self.assertGreater(rounds[0], 4)

    def test_a_restarted_server_is_followed_by_all(self):
        self.server.stop()
        self.server.write({FLAG: flag(7)})
        self.server.start()
        wait_until(lambda: self.flags.rollout_pct(FLAG) == 7)
        wait_until(lambda: self.in_child(lambda: self.flags.rollout_pct(FLAG)) == 7)


APPLICATION = """
import json, os
import flagshm

flags = flagshm.Flags()          # before the fork where it is preloaded
opened_by = os.getpid()

def application(environ, start_response):
    user = environ["QUERY_STRING"]
    decision = flags.decide("new_summarizer_model", user)
    with flags.call(decision) as call:
        call.output_tokens = 10
    body = json.dumps({"pid": os.getpid(), "opened_by": opened_by, "version": decision.version, "booked": call.booked,
                       "pct": decision.rollout_pct, "in": flags.in_variant("new_summarizer_model", user),
                       "model": flags.model("new_summarizer_model", user, "fallback")}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
"""


class PreFork(unittest.TestCase):
    WORKERS = 4

    def ask(self, user):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", "/?" + user)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def ask_all_workers(self, condition):
        """Asks until each worker has answered; then all must meet the condition."""
        answers = {}
        end = time.monotonic() + 30
        while len(answers) < self.WORKERS:
            self.assertLess(time.monotonic(), end, f"not all workers answered: {sorted(answers)}")
            with ThreadPoolExecutor(8) as pool:
                for answer in pool.map(self.ask, USERS[:32]):
                    answers[answer["pid"]] = answer
        for answer in answers.values():
            self.assertTrue(condition(answer), answer)
        return answers

    def check(self, server, is_preloaded):
        answers = self.ask_all_workers(lambda answer: answer["pct"] == 50 and answer["booked"] is True)
        self.assertEqual({answer["opened_by"] == pid for pid, answer in answers.items()}, {not is_preloaded})
        for user in USERS[:100]:
            answer = self.ask(user)
            self.assertEqual(answer["in"], seed(FLAG, user, 50))
            self.assertEqual(answer["model"], "claude-sonnet-4-5" if answer["in"] else "claude-haiku-4-5")
        for pct in (20, 80):
            server.edit({FLAG: flag(pct)})
            with server.flags() as flags:
                version = flags.version
            self.ask_all_workers(lambda answer: (answer["pct"], answer["version"]) == (pct, version))
        return answers

    def serve(self, command, **more):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        process = subprocess.Popen([part.replace("PORT", str(self.port)) for part in command], **more)

        def end():
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

        self.addCleanup(end)

        def answers():
            self.assertIsNone(process.poll(), "the server has ended")
            try:
                return self.ask("user-1")
            except OSError:
                return None

        wait_until(answers, 30)
        return process

    @unittest.skipUnless(importlib.util.find_spec("gunicorn"), "gunicorn is not installed for this interpreter")
    def test_gunicorn_with_and_without_preload(self):
        for options in (["--preload"], []):
            with self.subTest(options), Server({FLAG: flag(50)}) as server:
                with open(os.path.join(server.work, "application.py"), "w", encoding="utf-8") as out:
                    out.write(textwrap.dedent(APPLICATION))
                command = [sys.executable, "-m", "gunicorn", *options, "--workers", str(self.WORKERS), "--bind", "127.0.0.1:PORT"]
                process = self.serve(
                    command + ["--chdir", server.work, "--graceful-timeout", "5", "application:application"],
                    env={**os.environ, "FLAGSHM_INSTANCE": server.instance}, stderr=subprocess.DEVNULL,
                )  # fmt: skip
                answers = self.check(server, bool(options))
                os.kill(next(iter(answers)), signal.SIGKILL)  # a worker dies; its successor decides as the others
                with server.flags() as flags:
                    version = flags.version
                time.sleep(0.2)
                self.ask_all_workers(lambda answer: answer["version"] == version)
                self.assertIsNone(process.poll())
                process.terminate()
                process.wait(30)

    def test_a_pre_fork_server_of_the_standard_library(self):
        code = APPLICATION + textwrap.dedent(
            """
            import signal, sys
            from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

            parent = os.getpid()

            class Quiet(WSGIRequestHandler):
                def log_message(self, *_):
                    pass

            class Server(WSGIServer):
                def service_actions(self):  # twice a second
                    if os.getppid() != parent:
                        os._exit(0)

            with make_server("127.0.0.1", int(sys.argv[1]), application, Server, Quiet) as server:
                workers = []
                for _ in range(4):
                    pid = os.fork()
                    if pid == 0:
                        server.serve_forever()
                    workers.append(pid)
                def end(*_):
                    for pid in workers:
                        os.kill(pid, signal.SIGKILL)
                    sys.exit(0)
                signal.signal(signal.SIGTERM, end)
                while True:
                    signal.pause()
            """
        )
        with Server({FLAG: flag(50)}) as server:
            self.serve([sys.executable, "-c", code, "PORT"], env={**os.environ, "FLAGSHM_INSTANCE": server.instance})
            self.check(server, True)


if __name__ == "__main__":
    unittest.main()
