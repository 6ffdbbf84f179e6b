"""A receiver of webhooks for tests/cli/notify.sh: notify_receiver.py LOG SECRET [CERTIFICATE KEY]. Prints its port.

One line of JSON for each request goes to LOG. The path says the answer: /ok, /fail-twice (500 for the first two of an id),
/status-NNN, /redirect, /hang, /flood, /headers, /silent (closes without an answer), /stalls (200, then nothing more).
"""
import base64
import hashlib
import hmac
import http.server
import json
import ssl
import sys
import threading
import time

log = open(sys.argv[1], "a", buffering=1)
secret = base64.b64decode(sys.argv[2].removeprefix("whsec_"))
seen = {}
lock = threading.Lock()


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.do_POST()

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        ident = self.headers.get("webhook-id", "")
        stamp = self.headers.get("webhook-timestamp", "")
        given = self.headers.get("webhook-signature")
        mac = hmac.new(secret, f"{ident}.{stamp}.".encode() + body, hashlib.sha256).digest()
        with lock:
            seen[ident] = seen.get(ident, 0) + 1
            tries = seen[ident]
            log.write(json.dumps({
                "method": self.command, "path": self.path, "id": ident, "body": body.decode(),
                "type": self.headers.get("content-type"), "agent": self.headers.get("user-agent"),
                "authorization": self.headers.get("authorization"), "tries": tries,
                "signed": given is not None,
                "verified": given is not None and hmac.compare_digest(given, "v1," + base64.b64encode(mac).decode()),
                "fresh": stamp.isdigit() and abs(int(stamp) - time.time()) < 5,
            }) + "\n")
        self.answer(self.path.split("?")[0].strip("/"), tries)

    def answer(self, scenario, tries):
        self.close_connection = True
        if scenario == "hang":
            time.sleep(60)
        elif scenario == "silent":
            pass
        elif scenario == "headers":
            self.send_response(200)
            for number in range(2000):
                self.send_header(f"x-{number}", "y" * 100)
            self.end(0)
        elif scenario == "flood":
            self.send_response(200)
            self.end(1 << 30)
            try:
                while True:
                    self.wfile.write(b"x" * 65536)
            except OSError:
                pass
        elif scenario == "stalls":
            self.send_response(200)
            self.end(10)
            time.sleep(60)
        elif scenario == "redirect":
            self.send_response(302)
            self.send_header("location", "/ok")
            self.end(0)
        elif scenario.startswith("status-"):
            self.send_response(int(scenario[7:]))
            self.end(0)
        else:
            self.send_response(500 if scenario == "fail-twice" and tries <= 2 else 204)
            self.end(0)

    def end(self, length):
        self.send_header("content-length", str(length))
        self.end_headers()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass


server = Server(("127.0.0.1", 0), Receiver)
if len(sys.argv) > 3:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[3], sys.argv[4])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
