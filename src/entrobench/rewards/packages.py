"""Where packages lie that grading processes alone import, apart from the environment's."""

import os
import sys
from pathlib import Path

PACKAGES_VARIABLE = "ENTROBENCH_GRADER_PACKAGES"


def packages_folder() -> Path:
    """The folder that ENTROBENCH_GRADER_PACKAGES names, else grader-packages/ in the environment."""
    return Path(os.environ.get(PACKAGES_VARIABLE) or Path(sys.prefix) / "grader-packages")
