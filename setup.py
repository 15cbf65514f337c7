"""What the wheel holds beyond the package: DAG files, plugin file and examples, which `waybill init` copies into a project."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
SHIPPED = ("dags/*.py", "plugins/*.py", "examples/flights/**/*.py", "examples/flights/**/*.md", "examples/flights/**/*.yaml")


class BuildWithProjects(build_py):
    """`build_py`, and the shipped files below `waybill/shipped/`."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # a checkout has them at its top
            return
        for path in sorted(path for pattern in SHIPPED for path in ROOT.glob(pattern) if ".waybill" not in path.parts):
            target = Path(self.build_lib, "waybill/shipped", path.relative_to(ROOT))
            self.mkpath(str(target.parent))
            self.copy_file(str(path), str(target))


setup(cmdclass={"build_py": BuildWithProjects})
