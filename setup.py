"""Install `rtmdet_plugin.pth`, which runs `rtmdet_plugin_startup`, in the root of site-packages.

setuptools has no setting for that; all other settings are in pyproject.toml.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PTH = 'rtmdet_plugin.pth'


class BuildPyWithPth(build_py):
    """setuptools' `build_py` command, which copies the `.pth` file as well."""

    def pth_target(self) -> Path:
        """Return the path that the `.pth` file is copied to."""
        # An editable wheel is built from the folder that the `install` command would fill, not from build_lib.
        root = self.get_finalized_command('install').install_purelib if self.editable_mode else self.build_lib
        return Path(root) / PTH

    def run(self):
        """Build the packages and copy the `.pth` file."""
        super().run()
        self.pth_target().parent.mkdir(parents=True, exist_ok=True)
        self.copy_file(PTH, str(self.pth_target()))

    def get_outputs(self, include_bytecode=True):
        """List the files that the command writes, the `.pth` file included."""
        return [*super().get_outputs(include_bytecode), str(self.pth_target())]


setup(cmdclass={'build_py': BuildPyWithPth})
