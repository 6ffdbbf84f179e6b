"""pip install ./client/python, from a clone or from an sdist. From 3.10 on one build serves all later Pythons (abi3)."""

import re
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.sdist import sdist

here = Path(__file__).resolve().parent
header = next(path for path in (here / "flagshm.h", here.parent / "flagshm.h") if path.exists())
version = re.search(r'^#define FLAGSHM_VERSION +"(.*)"', header.read_text(), re.M).group(1)
is_limited = sys.version_info >= (3, 10) and not sysconfig.get_config_var("Py_GIL_DISABLED")


class SourceArchive(sdist):
    """With the header, which lies outside of this directory."""

    def make_release_tree(self, base_dir, files):
        super().make_release_tree(base_dir, files)
        for path in (header, *sorted(here.glob("src/*.h"))):
            target = Path(base_dir) / ("flagshm.h" if path == header else path.relative_to(here))
            self.copy_file(str(path), str(target))


setup(
    version=version,
    packages=["flagshm"],
    package_data={"flagshm": ["py.typed", "*.pyi"]},
    ext_modules=[
        Extension(
            "flagshm._flagshm",
            sorted(str(path.relative_to(here)) for path in here.glob("src/*.c")),
            include_dirs=[str(header.parent)],
            depends=[str(header), "src/extension.h"],
            define_macros=[("Py_LIMITED_API", "0x030A0000")] if is_limited else [],
            extra_compile_args=["-O2", "-fvisibility=hidden"],
            py_limited_api=is_limited,
        )
    ],
    cmdclass={"sdist": SourceArchive},
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if is_limited else {},
)
