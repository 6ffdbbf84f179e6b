"""What is installed can be imported: by cmake --install, and by pip from the source directory."""

import glob
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

from support import BUILD

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CODE = """
import flagshm
flags = flagshm.Flags("nobody-serves-this")
print(flagshm.__file__)
print(flags.model("flag", "user-1", "fallback"), flags.decide("flag", "user-1").reason, flagshm.__version__)
"""


def has(*modules):
    return all(importlib.util.find_spec(module) is not None for module in modules)


class Install(unittest.TestCase):
    def setUp(self):
        self.work = tempfile.mkdtemp(prefix="flagshm-python-")
        self.addCleanup(shutil.rmtree, self.work, ignore_errors=True)

    def check(self, directory):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        done = subprocess.run(
            [sys.executable, "-c", CODE], env={**environment, "PYTHONPATH": directory, "PYTHONDONTWRITEBYTECODE": "1"},
            cwd=self.work, capture_output=True, text=True, check=False,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
        where, said = done.stdout.splitlines()
        self.assertEqual(os.path.realpath(where), os.path.realpath(os.path.join(directory, "flagshm", "__init__.py")))
        with open(os.path.join(SOURCE, "client", "flagshm.h"), encoding="utf-8") as text:
            header = text.read()
        version = header.split("#define FLAGSHM_VERSION ")[1].split('"')[1]
        self.assertEqual(said, f"fallback NOT_READY {version}")
        for name in ("_flagshm.pyi", "py.typed"):
            self.assertTrue(os.path.exists(os.path.join(directory, "flagshm", name)), name)

    def run_quietly(self, *command, **more):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **more)
        self.assertEqual(done.returncode, 0, done.stdout[-4000:])

    def test_cmake_installs_it_below_the_prefix(self):
        prefix = os.path.join(self.work, "prefix")
        self.run_quietly("cmake", "--install", BUILD, "--prefix", prefix, "--component", "python")
        found = glob.glob(os.path.join(prefix, "lib*", "python3*", "*-packages", "flagshm"))
        self.assertEqual(len(found), 1, found)
        self.check(os.path.dirname(found[0]))

    @unittest.skipUnless(has("pip", "setuptools", "wheel"), "pip, setuptools and wheel are not there")
    def test_pip_installs_it_from_a_clone_and_from_an_archive(self):
        clone = os.path.join(self.work, "client")  # pip builds in the directory itself
        shutil.copytree(os.path.join(SOURCE, "client"), clone, ignore=shutil.ignore_patterns("build", "*.egg-info", "dist"))
        pip = [sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-index", "--no-deps", "--quiet"]
        target = os.path.join(self.work, "target")
        self.run_quietly(*pip, "--target", target, os.path.join(clone, "python"))
        self.check(target)
        self.assertEqual(len(glob.glob(os.path.join(target, "flagshm", "_flagshm.*.so"))), 1)
        archives = os.path.join(self.work, "archives")
        self.run_quietly(sys.executable, "setup.py", "-q", "sdist", "-d", archives, cwd=os.path.join(clone, "python"))
        os.rename(clone, clone + "-is-elsewhere")
        target = os.path.join(self.work, "from-archive")
        self.run_quietly(*pip, "--target", target, glob.glob(os.path.join(archives, "*.tar.gz"))[0])
        self.check(target)


if __name__ == "__main__":
    unittest.main()
