"""AppWorld (arXiv 2407.18901) as a world: its own engine, apps, shell and unit tests.

Loaded inside the sandbox by the Python of AppWorld's environment. What a world's module defines: prepare,
World. A task's id is <scenario>_<number>.
"""

import contextlib
import importlib.util
import os
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

UNPACKED = Path("/tmp/code")
SPLITS = ("train", "dev", "test_normal", "test_challenge")


def prepare(options: dict) -> dict:
    """Import the engine, and say its version, that of the data, and how many tasks each split has.

    Raises ImportError or ValueError for another version than that of `options`.
    """
    unpack()
    found = version("appworld")
    if found != options["version"]:
        raise ValueError(f"expected the package appworld {options['version']}, found {found}")
    # What an episode needs and what takes seconds, once for all of them
    import appworld.environment  # noqa: F401
    from appworld.apps import get_all_apps
    from appworld.collections.api_docs import ApiDocCollection
    from appworld.common.utils import import_apis_module, import_models_module

    for app in get_all_apps():
        import_models_module(app)
        import_apis_module(app)
    ApiDocCollection.load(load_apps=tuple(get_all_apps(skip_admin=True)), include_response_schemas=True)
    data = Path(os.environ["APPWORLD_ROOT"]) / "data"
    lists = {split: data / "datasets" / f"{split}.txt" for split in SPLITS}
    tasks = {split: len(path.read_text().split()) for split, path in lists.items() if path.exists()}
    return {"version": found, "tasks": tasks}


def unpack() -> None:
    """Make the package's protected part importable: its licence wants it encrypted wherever it is passed on,
    so that environments and images have it in a bundle. It is unpacked beside a copy of the package, in
    memory.
    """
    spec = importlib.util.find_spec("appworld")
    if spec is None or spec.origin is None:
        raise ImportError("the package appworld is not installed")
    package = Path(spec.origin).parent
    if (package / "apps" / "admin").is_dir():
        return
    shutil.copytree(package, UNPACKED / "appworld")
    sys.path.insert(0, str(UNPACKED))
    importlib.invalidate_caches()
    from appworld.install import install_package

    with contextlib.redirect_stdout(None):
        install_package()


class World:
    """One task."""

    def __init__(self, task: str, options: dict | None = None) -> None:
        del options
        from appworld.environment import AppWorld

        # Outputs of every episode in a folder of its own: many run at once, of the same task too
        self._world = AppWorld(task_id=task, experiment_name=f"episode_{os.getpid()}")

    def execute(self, code: str, seconds: float) -> str:
        """Run code in AppWorld's shell for at most `seconds`: what it prints, or the trace of its error."""
        self._world.timeout_seconds = int(seconds)
        try:
            return str(self._world.execute(code))
        except SystemExit as error:
            return f"Execution failed. Traceback:\nSystemExit: {error}"

    def is_done(self) -> bool:
        """Whether the task was marked as completed."""
        return bool(self._world.task_completed())

    def goals(self) -> tuple[int, int]:
        """(passed, of how many) of the task's unit tests."""
        tests = self._world.evaluate(suppress_errors=True)
        return tests.pass_count, tests.num_tests
