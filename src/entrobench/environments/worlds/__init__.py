"""The worlds that there are, and how the sandbox of each is made. A new one is a module here and an entry.

docs/environments.md says how. The modules of this folder run inside the sandbox: only smoke_shell, which
makes tasks too, is imported by this process.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from entrobench.configs import require_known
from entrobench.errors import MissingInput
from entrobench.machine.sandbox import this_python
from entrobench.machine.site import APPWORLD_ROOT
from entrobench.paths import repository_root

APPWORLD_VERSION = "0.1.3.post1"
OF_IMAGE = Path("/opt/appworld/bin/python")
APPWORLD_PYTHON = "ENTROBENCH_APPWORLD_PYTHON"
GET_APPWORLD = (
    "Type: make venv-appworld, then download its task data (an encrypted bundle, not to be published in "
    "the clear) on a machine with internet: APPWORLD_ROOT=FOLDER .venv-appworld/bin/appworld download "
    "data\n  and name FOLDER: export APPWORLD_ROOT=FOLDER, or paths.appworld in configs/site.yaml"
)


@dataclass(frozen=True)
class Limits:
    """Of one episode's process. seconds: of one execution. cpu_seconds: of the whole episode. characters: of
    one observation. disk_mb: that all episodes of a sandbox share, and of one file.
    """

    seconds: float
    cpu_seconds: int
    memory_mb: int
    disk_mb: int
    characters: int


@dataclass(frozen=True)
class WorldKind:
    """How a world's sandbox is made. python, read_only, writable, environment: of it. is_bare: without
    site-packages. options: what its module is told. get: what to type where something is missing.
    """

    name: str
    module: Path
    python: Path
    limits: Limits
    read_only: Mapping[Path, Path] = field(default_factory=dict)
    writable: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    is_bare: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    get: str = ""


def _smoke_shell() -> WorldKind:
    """The small world of the smoke scale."""
    python, prefix = this_python()
    return WorldKind(
        name="smoke_shell",
        module=Path(__file__).with_name("smoke_shell.py"),
        python=python,
        read_only={prefix: prefix},
        limits=Limits(seconds=5, cpu_seconds=60, memory_mb=512, disk_mb=0, characters=4000),
    )


def _appworld() -> WorldKind:
    """AppWorld (arXiv 2407.18901), in an environment of its own: its pins contradict verl's and vLLM's.

    Raises MissingInput without that environment or without task data.
    """
    python, root = appworld_python(), appworld_root()
    venv = python.parent.parent
    base = Path(os.path.realpath(python)).parent.parent
    inside = Path("/appworld")
    return WorldKind(
        name="appworld",
        module=Path(__file__).with_name("appworld.py"),
        python=python,
        read_only={base: base, venv: venv, root / "data": inside / "data"},
        writable=(inside / "experiments", Path("/tmp")),
        environment={"APPWORLD_ROOT": str(inside), "APPWORLD_CACHE": "/tmp/cache", "HOME": "/tmp"},
        is_bare=False,
        options={"version": APPWORLD_VERSION},
        limits=Limits(seconds=100, cpu_seconds=1800, memory_mb=4096, disk_mb=2048, characters=100_000),
        get=GET_APPWORLD,
    )


def appworld_python() -> Path:
    """The interpreter of AppWorld's environment. Raises MissingInput."""
    of_checkout = repository_root() / ".venv-appworld/bin/python"
    named = os.environ.get(APPWORLD_PYTHON)
    python = Path(named) if named else OF_IMAGE if OF_IMAGE.exists() else of_checkout
    if not python.exists():
        raise MissingInput(f"appworld: no environment at {python.parent.parent}\n  {GET_APPWORLD}")
    return python


def appworld_root() -> Path:
    """The folder with AppWorld's `data`. Raises MissingInput."""
    named = os.environ.get(APPWORLD_ROOT)
    if not named:
        raise MissingInput(f"appworld: {APPWORLD_ROOT} names no folder with its data\n  {GET_APPWORLD}")
    root = Path(named).resolve()
    if not (root / "data" / "tasks").is_dir():
        raise MissingInput(f"appworld: {root}/data/tasks does not exist\n  {GET_APPWORLD}")
    return root


WORLDS: dict[str, Callable[[], WorldKind]] = {"smoke_shell": _smoke_shell, "appworld": _appworld}


def world_kind(name: str) -> WorldKind:
    """How the world `name` is made. Raises UnknownName, MissingInput."""
    require_known("environment", name, list(WORLDS), "ls src/entrobench/environments/worlds")
    return WORLDS[name]()
