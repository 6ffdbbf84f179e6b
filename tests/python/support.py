"""What the tests share: a server of their own, with an instance of its own; everything is gone afterwards.

The build directory is BUILD_DIRECTORY of the environment, or the last argument.
"""

import glob
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

import flagshm

BUILD = os.path.abspath(os.environ.get("BUILD_DIRECTORY") or sys.argv[-1])
FLAGSHMD = os.path.join(BUILD, "server", "flagshmd")
FLAG = "new_summarizer_model"
_numbers = itertools.count(1)

for _name in ("FLAGSHM_DIR", "FLAGSHM_OWNER", "FLAGSHM_INSTANCE", "NOTIFY_SOCKET"):
    os.environ.pop(_name, None)


def flag(pct, **more):
    return {"control": "claude-haiku-4-5", "variant": "claude-sonnet-4-5", "rollout_pct": pct, **more}


def seed(name, user, pct):
    """The seed's own function."""
    user = user if isinstance(user, bytes) else user.encode()
    return int(hashlib.md5(name.encode() + b":" + user).hexdigest(), 16) % 100 < pct


def wait_until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"did not come true within {seconds} s")
        time.sleep(0.005)


class Server:
    """flagshmd, with the flags of a dict."""

    def __init__(self, flags=None, start=True):
        self.instance = f"py{os.getpid()}-{next(_numbers)}"
        self.work = tempfile.mkdtemp(prefix="flagshm-python-")
        self.file = os.path.join(self.work, "flags.json")
        self.process = None
        self._pid = os.getpid()
        self.write(flags or {FLAG: flag(5)})
        if start:
            self.start()

    def start(self):
        self.log = open(os.path.join(self.work, "log"), "ab")
        self.process = subprocess.Popen(
            [FLAGSHMD, "--file", self.file, "--instance", self.instance, "--state-dir", os.path.join(self.work, "state"),
             "--socket", os.path.join(self.work, "sock")],
            stderr=self.log,
        )  # fmt: skip
        wait_until(self.has_table)

    def has_table(self):
        if self.process.poll() is not None:
            with open(self.log.name, encoding="utf-8") as log:
                raise AssertionError("the server has ended: " + log.read())
        with self.flags() as flags:  # a handle tries again after a second only
            return flags.open_error == 0 and os.path.exists(os.path.join(self.work, "sock"))

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
            self.process = None
            self.log.close()

    def flags(self):
        return flagshm.Flags(self.instance)

    def write(self, flags):
        with open(self.file + ".new", "w", encoding="utf-8") as out:
            json.dump({"flags": flags}, out)
        os.replace(self.file + ".new", self.file)

    def edit(self, flags):
        """Writes, and waits until that is the table. One more flag, so that there always is something new."""
        with self.flags() as watch:
            seen = watch.version
            self.write({**flags, f"edit-{next(_numbers)}": flag(0)})
            if not watch.wait(seen, 20):
                raise AssertionError("an edit was not seen")

    def close(self):
        if os.getpid() != self._pid:
            return
        self.stop()
        shutil.rmtree(self.work, ignore_errors=True)
        for path in glob.glob(f"/dev/shm/flagshm.{self.instance}.*"):
            os.unlink(path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
