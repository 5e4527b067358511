"""Let mmdeploy's rewriters find the functions that they replace, on Python 3.13 and later.

mmdeploy 1.3.1 runs `exec('import mmdet.models')` in a function and reads the name `mmdet` there afterwards. Since
Python 3.13 (PEP 667), `exec` no longer changes the local names of a function, so mmdeploy would skip every rewriter.
"""

import builtins
import sys

from mmdeploy.core.rewriters import function_rewriter, rewriter_utils


def exec_in_module(code: str) -> None:
    """Run code for the calling function, as `exec(code)` did before Python 3.13.

    Imported names are added to the caller's module, where `eval` in the caller finds them. Other statements see the
    caller's local names as well.
    """
    caller = sys._getframe(1)
    if code.startswith('import '):
        builtins.exec(code, caller.f_globals)
    else:
        builtins.exec(code, {**caller.f_globals, **caller.f_locals})


if sys.version_info >= (3, 13):
    for module in (function_rewriter, rewriter_utils):
        vars(module)['exec'] = exec_in_module
