"""Tasks of environments as training rows and benchmark problems: which there are, and what a prompt may name.

AppWorld's lie in its own data (APPWORLD_ROOT); those of smoke_shell are generated. A task's gold is that all
of its goals are met, which the environment alone can tell.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from entrobench.configs import require_known
from entrobench.environments.worlds import APPWORLD_VERSION, GET_APPWORLD, appworld_root, smoke_shell
from entrobench.errors import CorruptFile, MissingInput
from entrobench.files import read_json

GOLD = "all goals are met"
TRAIN_TASKS, TASKS_PER_BENCHMARK = 1500, 72
# Numbers of training tasks begin here: tasks of benchmarks have lower ones
FIRST_TRAIN_TASK = 1000


@dataclass(frozen=True)
class Task:
    """One task. name: by which the environment knows it. scenario: of tasks that differ in details only;
    empty for none. fields: what a prompt may name beside the instruction.
    """

    name: str
    instruction: str
    scenario: str = ""
    fields: dict[str, str] = field(default_factory=dict)


def tasks_of(environment: str, split: str) -> list[Task]:
    """The tasks of a split, in the environment's order. Raises UnknownName, MissingInput, CorruptFile."""
    require_known("environment", environment, list(_TASKS), "ls configs/datasets configs/benchmarks")
    return _TASKS[environment](split)


def has_tasks(environment: str) -> bool:
    """Whether the tasks of an environment are on this machine."""
    try:
        return environment != "appworld" or appworld_root().is_dir()
    except MissingInput:
        return False


def _smoke_shell(split: str) -> list[Task]:
    """train, or a difficulty of its own."""
    levels = list(smoke_shell.DIFFICULTIES)
    if split == "train":
        names = [f"{levels[row % len(levels)]}/{FIRST_TRAIN_TASK + row}" for row in range(TRAIN_TASKS)]
    else:
        require_known("split", split, ["train", *levels], "ls configs/benchmarks/smoke_shell_*")
        names = [f"{split}/{number}" for number in range(TASKS_PER_BENCHMARK)]
    return [Task(name, smoke_shell.State(name).instruction()) for name in names]


def _appworld(split: str) -> list[Task]:
    data = appworld_root() / "data"
    listed = data / "datasets" / f"{split}.txt"
    if not listed.exists():
        raise MissingInput(f"appworld: {listed} does not exist\n  {GET_APPWORLD}")
    return [_appworld_task(name, data / "tasks" / name) for name in listed.read_text().split()]


def _appworld_task(name: str, folder: Path) -> Task:
    """A task from its specs.json; a list may mark an id with a tag, `name:tag`."""
    name = name.partition(":")[0]
    path = folder.with_name(name) / "specs.json"
    specs = read_json(path)
    person = specs.get("supervisor") or specs.get("main_user") or {}
    wanted = ("first_name", "last_name", "email", "phone_number")
    missing = [key for key in wanted if not isinstance(person.get(key), str)]
    if missing or not isinstance(specs.get("instruction"), str):
        raise CorruptFile(
            f"{path}: expected an instruction and a supervisor with {', '.join(wanted)}, found "
            f"{sorted(specs)}. Are the data those of appworld {APPWORLD_VERSION}?"
        )
    fields = {key: person[key] for key in wanted}
    return Task(name, specs["instruction"], name.rpartition("_")[0], fields)


_TASKS: dict[str, Callable[[str], list[Task]]] = {"smoke_shell": _smoke_shell, "appworld": _appworld}
