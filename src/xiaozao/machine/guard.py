"""Keeps transformers from downloading code: blocks the package `kernels` before transformers is imported.

With a package named `kernels` installed, transformers and bitsandbytes download compiled code from the hub when a
model's config asks for it. `trust_remote_code=False` does not prevent that; only the package's absence does.
"""

import sys
from importlib.util import find_spec
from types import ModuleType
from typing import cast

from xiaozao.errors import EnvironmentProblem


def refuse_kernels() -> None:
    """Make `import kernels` fail and `find_spec` say that there is none. To be called before transformers is imported.

    Raises EnvironmentProblem where it comes too late: transformers has seen the package.
    """
    if "transformers" in sys.modules and find_spec("kernels") is not None:
        raise EnvironmentProblem("kernels_loaded")
    sys.modules["kernels"] = cast(ModuleType, None)  # None is how Python marks a module that must not be found
