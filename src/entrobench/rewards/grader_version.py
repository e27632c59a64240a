"""Which code decides a verdict: a hash of a grader's modules without their comments, and the versions of the
packages that it asks.

A file that keeps verdicts keeps this too, so that they are made again once a grader is another one.
"""

import hashlib
import platform
import re
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, version
from pathlib import Path

from entrobench.errors import MissingInput
from entrobench.files import sha256_code
from entrobench.rewards.packages import packages_folder

_FOLDER = Path(__file__).parent
# An import, the module that a process is started with, or the file that runs in the sandbox
_MENTION = re.compile(r'entrobench\.rewards\.(\w+)|with_name\("(\w+)\.py"\)')
# The registry decides too (gold, second verdict), but what it names beside a grader does not
_REGISTRY = "graders"
ALL_GRADERS = f"entrobench.rewards.{_REGISTRY}"
_PACKAGES = {
    "worker": ("lm-eval", "math-verify", "latex2sympy2-extended", "sympy"),
    "ifeval_worker": ("lm-eval", "langdetect", "nltk", "nupunkt"),
}
# Beside them, those that only the grading processes see
_OF_PROCESSES = {"worker": "antlr4-python3-runtime", "function_call_ast": "bfcl-eval"}


@cache
def version_of(module: str) -> str:
    """The version of what `module` grades, such as entrobench.rewards.crux; the same wherever code and
    packages are. The registry's own name stands for all graders.
    """
    modules = _reached(module.rpartition(".")[2])
    packages = {package: _installed(package) for name in modules for package in _PACKAGES.get(name, ())}
    packages |= {
        package: _of_processes(package) for name, package in _OF_PROCESSES.items() if name in modules
    }
    if "in_sandbox" in modules:
        packages["Python"] = ".".join(platform.python_version_tuple()[:2])
    versions = (f"{name} {packages[name]}" for name in sorted(packages))
    return ", ".join([f"rules {rules_of(module)}", *versions])


@cache
def rules_of(module: str) -> str:
    """What of `version_of` is this project's own: a hash, the same on machines without the packages."""
    digest = hashlib.sha256()
    for name in sorted(_reached(module.rpartition(".")[2]) | {_REGISTRY}):
        digest.update(name.encode() + b"\0" + sha256_code(_FOLDER / f"{name}.py").encode())
    return digest.hexdigest()[:16]


def _reached(first: str) -> set[str]:
    """The modules of this folder that `first` mentions, directly or through others, and itself."""
    reached: set[str] = set()
    waiting = [first]
    while waiting:
        name = waiting.pop()
        if name not in reached and (_FOLDER / f"{name}.py").is_file():
            reached.add(name)
            source = (_FOLDER / f"{name}.py").read_text(encoding="utf-8")
            waiting += [a or b for a, b in _MENTION.findall(source)]
    return reached


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _of_processes(package: str) -> str:
    try:
        found = Distribution.discover(name=package, path=[str(packages_folder())])
        return next(distribution.version for distribution in found)
    except (MissingInput, StopIteration):
        return "absent"
