"""What tests/cli/gateway.sh needs beyond curl and jq: server-sent events, chunks as they came, many calls at once.

usage: wire.py events | message            (of a stream on standard input)
       wire.py chunks URL MODEL            sizes of the chunks that answer a streamed call
       wire.py calls URL MODEL USERS CALLS THREADS    CALLS calls for each of so many users, one JSON line a call
       wire.py half URL MODEL COUNT        leaves so many times in the middle of its request
       wire.py hold URL MODEL COUNT        makes so many calls at once, says "held", and leaves when its input ends
"""
import collections
import http.client
import json
import re
import socket
import sys
import threading
import urllib.parse

HEADERS = {"x-api-key": "secret-of-wire", "anthropic-version": "2023-06-01", "content-type": "application/json"}


def body(model, user, stream=False):
    return json.dumps({"model": model, "max_tokens": 100000, "stream": stream, "metadata": {"user_id": user},
                       "messages": [{"role": "user", "content": "Summarise as JSON"}]})


def events(raw):
    """The specification's rules: lines end in CR LF, LF or CR; a blank line dispatches; a colon first is a comment."""
    name, data = "", []
    for line in re.split("\r\n|\n|\r", raw.decode("utf-8", "strict")):
        if line == "":
            if data:
                yield name, "\n".join(data)
            name, data = "", []
        elif not line.startswith(":"):
            field, _, value = line.partition(":")
            value = value[1:] if value.startswith(" ") else value
            if field == "event":
                name = value
            elif field == "data":
                data.append(value)


def parsed_events(raw):
    for name, data in events(raw):
        parsed = json.loads(data)
        if name != parsed["type"]:
            sys.exit(f"event {name} carries type {parsed['type']}")
        yield name, parsed


def message(raw):
    """Puts a message together as a client does that knows the vendor's documentation."""
    result, is_open = None, False
    for name, data in parsed_events(raw):
        if name == "message_start":
            result = data["message"]
        elif name == "content_block_start":
            if is_open or data["index"] != len(result["content"]):
                sys.exit("a block begins within another, or out of order")
            result["content"].append(dict(data["content_block"], json=""))
            is_open = True
        elif name == "content_block_delta":
            delta, block = data["delta"], result["content"][data["index"]]
            if not is_open:
                sys.exit("a delta outside of a block")
            if delta["type"] == "text_delta":
                block["text"] += delta["text"]
            elif delta["type"] == "input_json_delta":
                block["json"] += delta["partial_json"]
        elif name == "content_block_stop":
            is_open = False
        elif name == "message_delta":
            if is_open:
                sys.exit("message_delta within a block")
            result.update(data["delta"])
            result["usage"].update({k: v for k, v in data["usage"].items() if v is not None})
        elif name == "message_stop":
            result["stopped"] = True
        elif name == "error":
            result["error"] = data["error"]
    return result


def address(url):
    parts = urllib.parse.urlsplit(url)
    return parts.hostname, parts.port


def raw_call(url, model, stream, missing=0):
    connection = socket.create_connection(address(url), timeout=30)
    text = body(model, "raw", stream)
    head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    text = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\n{head}content-length: {len(text)}\r\n\r\n{text}"
    connection.sendall(text[:len(text) - missing].encode())
    return connection


def chunks(url, model):
    reader = raw_call(url, model, True).makefile("rb")
    while reader.readline() not in (b"\r\n", b""):
        pass
    sizes = collections.Counter()
    while True:
        size = int(reader.readline(), 16)
        if size == 0:
            return sizes
        sizes[size] += 1
        reader.read(size + 2)


def calls(url, model, users, count, threads):
    lock, lines = threading.Lock(), []

    def work(first):
        connection = http.client.HTTPConnection(*address(url), timeout=60)
        for user in range(first, users, threads):
            for number in range(count):
                connection.request("POST", "/v1/messages", body(model, f"user-{user}"), HEADERS)
                response = connection.getresponse()
                answer = json.loads(response.read())
                text = answer["content"][0]["text"] if response.status == 200 else ""
                with lock:
                    lines.append({"user": user, "number": number, "status": response.status,
                                  "id": response.getheader("request-id"), "text": text, "usage": answer.get("usage")})
        connection.close()

    workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if len(lines) != users * count:
        sys.exit(f"{len(lines)} of {users * count} calls came through")
    return sorted(lines, key=lambda line: (line["user"], line["number"]))


def main(arguments):
    verb = arguments[0] if arguments else ""
    if verb == "events":
        for name, data in parsed_events(sys.stdin.buffer.read()):
            print(json.dumps({"event": name, "data": data}))
    elif verb == "message":
        print(json.dumps(message(sys.stdin.buffer.read())))
    elif verb == "chunks":
        print(json.dumps(chunks(*arguments[1:])))
    elif verb == "calls":
        for line in calls(arguments[1], arguments[2], *map(int, arguments[3:])):
            print(json.dumps(line))
    elif verb == "half":
        for number in range(int(arguments[3])):
            raw_call(arguments[1], arguments[2], False, 1 + number % 400).close()
    elif verb == "hold":
        held = [raw_call(arguments[1], arguments[2], False) for _ in range(int(arguments[3]))]
        print("held", flush=True)
        sys.stdin.read()
        for connection in held:
            connection.close()
    else:
        sys.exit(__doc__)


main(sys.argv[1:])
