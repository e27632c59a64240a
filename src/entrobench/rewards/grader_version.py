"""Which code decides a verdict: a hash of a grader's modules, and the versions of the packages that it asks.

A file that keeps verdicts keeps this too, so that they are made again once a grader is another one.
"""

import hashlib
import platform
import re
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, version
from pathlib import Path

from entrobench.errors import MissingInput
from entrobench.rewards.pool import grader_packages

_FOLDER = Path(__file__).parent
# An import, the module that a process is started with, or the file that runs in the sandbox
_MENTION = re.compile(r'entrobench\.rewards\.(\w+)|with_name\("(\w+)\.py"\)')
# The registry decides too (gold, second verdict), but what it names beside a grader does not
_REGISTRY = "graders"
_PACKAGES = {
    "worker": ("lm-eval", "math-verify", "latex2sympy2-extended", "sympy"),
    "ifeval_worker": ("lm-eval", "langdetect", "nltk", "nupunkt"),
    "function_call_ast": ("bfcl-eval",),
}
_ANTLR = "antlr4-python3-runtime"


@cache
def version_of(module: str) -> str:
    """The version of what `module` grades, such as entrobench.rewards.crux; the same wherever code and
    packages are. The registry's own name stands for all graders.
    """
    modules = _reached(module.rpartition(".")[2])
    digest = hashlib.sha256()
    for name in sorted(modules | {_REGISTRY}):
        digest.update(name.encode() + b"\0" + hashlib.sha256(_source(name)).digest())
    packages = {package: _installed(package) for name in modules for package in _PACKAGES.get(name, ())}
    if "worker" in modules:
        packages[_ANTLR] = _antlr()
    if "in_sandbox" in modules:
        packages["Python"] = ".".join(platform.python_version_tuple()[:2])
    return ", ".join([f"rules {digest.hexdigest()[:16]}", *(f"{k} {packages[k]}" for k in sorted(packages))])


def _source(name: str) -> bytes:
    return (_FOLDER / f"{name}.py").read_bytes()


def _reached(first: str) -> set[str]:
    """The modules of this folder that `first` mentions, directly or through others, and itself."""
    reached: set[str] = set()
    waiting = [first]
    while waiting:
        name = waiting.pop()
        if name not in reached and (_FOLDER / f"{name}.py").is_file():
            reached.add(name)
            waiting += [a or b for a, b in _MENTION.findall(_source(name).decode("utf-8"))]
    return reached


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _antlr() -> str:
    """The one that the grading processes of mathematics import."""
    try:
        found = Distribution.discover(name=_ANTLR, path=[str(grader_packages())])
        return next(distribution.version for distribution in found)
    except (MissingInput, StopIteration):
        return "absent"
