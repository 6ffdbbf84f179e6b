"""The README's Python is true."""

import os
import re
import unittest
from types import SimpleNamespace

import flagshm
from support import FLAG, Server, flag, seed

README = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "README.md")


class Readme(unittest.TestCase):
    def test_the_example_calls_the_model_that_the_server_s_file_says(self):
        asked = []

        def create(**request):
            asked.append(request["model"])
            usage = SimpleNamespace(input_tokens=5, output_tokens=6)
            return SimpleNamespace(usage=usage, stop_reason="end_turn", content=[SimpleNamespace(type="text", text="short")])

        with open(README, encoding="utf-8") as text:
            (code,) = re.findall(r"^```python\n(.*?)^```", text.read(), re.M | re.S)
        names = {"client": SimpleNamespace(messages=SimpleNamespace(create=create))}
        with Server({FLAG: flag(50)}) as server:
            os.environ["FLAGSHM_INSTANCE"] = server.instance
            try:
                exec(compile(code, "README.md", "exec"), names)
            finally:
                del os.environ["FLAGSHM_INSTANCE"]
            for user in ("user-1", "user-2", "user-3", "user-4"):
                self.assertEqual(names["summarize"](user, "a long text").content[0].text, "short")
                self.assertEqual(asked.pop(), "claude-sonnet-4-5" if seed(FLAG, user, 50) else "claude-haiku-4-5")
        names["flags"].close()
        names["flags"] = flagshm.Flags("nobody-serves-this")
        for user in ("user-1", "user-2", "user-3", "user-4"):
            names["summarize"](user, "a long text")
            self.assertEqual(asked.pop(), "claude-haiku-4-5")


if __name__ == "__main__":
    unittest.main()
