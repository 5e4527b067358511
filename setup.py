"""Everything but one file is in pyproject.toml: the `.pth` that runs `rtmdet_plugin_startup` has to lie in the root
of site-packages, and setuptools has no setting for that."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PTH = 'rtmdet_plugin.pth'


class BuildPyWithPth(build_py):
    def pth_target(self) -> Path:
        # An editable wheel is made out of the folder that the `install` command would fill, not out of build_lib.
        root = self.get_finalized_command('install').install_purelib if self.editable_mode else self.build_lib
        return Path(root) / PTH

    def run(self):
        super().run()
        self.pth_target().parent.mkdir(parents=True, exist_ok=True)
        self.copy_file(PTH, str(self.pth_target()))

    def get_outputs(self, include_bytecode=True):
        return [*super().get_outputs(include_bytecode), str(self.pth_target())]


setup(cmdclass={'build_py': BuildPyWithPth})
