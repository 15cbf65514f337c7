"""What the wheel holds beyond the package: the consumer's package, whose code the product verifies with, and DAG files, plugin file and
examples, which `waybill init` copies into a project, and the documentation that the web application serves.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
CONSUMER = ROOT / "consumer/src/waybill_consumer"
SITE = ("site/**/*",)  # the documentation, where `make docs` has built it
SHIPPED = ("dags/*.py", "plugins/*.py", "examples/flights/**/*.py", "examples/flights/**/*.md", "examples/flights/**/*.yaml")


class BuildWithProjects(build_py):
    """`build_py`, and the shipped files below `waybill/shipped/`."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # a checkout has them at its top
            return
        for path in sorted(path for pattern in ("**/*.py", "**/py.typed") for path in CONSUMER.glob(pattern)):
            self._ship(path, path.relative_to(CONSUMER.parent))
        shipped = (path for pattern in (*SHIPPED, *SITE) for path in ROOT.glob(pattern))
        for path in sorted(path for path in shipped if path.is_file() and ".waybill" not in path.parts):
            self._ship(path, Path("waybill/shipped", path.relative_to(ROOT)))

    def _ship(self, path: Path, name: Path) -> None:
        target = Path(self.build_lib, name)
        self.mkpath(str(target.parent))
        self.copy_file(str(path), str(target))


setup(cmdclass={"build_py": BuildWithProjects})
