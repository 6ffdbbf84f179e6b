"""A Python worker for tests/cli/calls.sh: one call of the gateway for each user on standard input, decided, tagged and booked."""
import http.client
import json
import os
import sys
import time
import urllib.parse

import flagshm

FLAG = "new_summarizer_model"

def main():
    address = urllib.parse.urlsplit(os.environ["EZAI_BASE_URL"])
    connection = http.client.HTTPConnection(address.hostname, address.port)
    flags = flagshm.Flags()
    for line in sys.stdin:
        user = line.rstrip("\n")
        decision = flags.decide(FLAG, user)
        body = {
            "model": decision.model,
            "max_tokens": 64,
            "messages": [{"role": "user", "content": "One word."}],
            "metadata": {"user_id": user, "flag_variant": decision.arm_name, "rollout_stage": decision.stage},
        }
        headers = {"content-type": "application/json", "anthropic-version": "2023-06-01", "x-api-key": "k"}
        begin = time.monotonic()
        flags.record(decision, event="started")
        connection.request("POST", "/v1/messages", json.dumps(body), headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
        usage = answer.get("usage", {})
        flags.record(decision, status=response.status, latency=time.monotonic() - begin,
                     input_tokens=usage.get("input_tokens", 0), output_tokens=usage.get("output_tokens", 0),
                     cache_tokens=usage.get("cache_read_input_tokens", 0) + usage.get("cache_creation_input_tokens", 0))
        print(user, flush=True)

main()
