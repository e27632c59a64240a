"""The environment of every test: verl on the CPU, no hub, no other Ray; and the real data, where they are."""

import os
import re
import subprocess
from collections import Counter

import pytest
from filelock import FileLock

NO_FOLDER = "the folder of real data is absent (set ENTROBENCH_SHARED_DATA)"
NO_FILE = "the folder of real data has no "

os.environ |= {
    "VERL_PLATFORM": "cpu",
    "VERL_USE_EXTERNAL_MODULES": "entrobench.training.cpu_platform",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    # Several test processes share the cores, and threads that wait for each other in a loop take them
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
}
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.pop("RAY_ADDRESS", None)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory, worker_id):
    """A function (name, make) -> folder that one of the test processes fills for all, by `make(folder)`."""

    def folder_of(name, make):
        base = tmp_path_factory.getbasetemp()
        shared = base if worker_id == "master" else base.parent
        folder = shared / f"once-{name}"
        with FileLock(shared / f"once-{name}.lock"):
            if not (folder / "made").exists():
                folder.mkdir(exist_ok=True)
                make(folder)
                (folder / "made").touch()
        return folder

    return folder_of


@pytest.fixture(scope="session")
def sandbox():
    """A skip, with the reason, where bwrap itself makes no sandbox. Where it does, ours has to work."""
    from entrobench.errors import MissingInput, UnsupportedPlatform
    from entrobench.machine.sandbox import require_bwrap
    from entrobench.rewards.code_sandbox import require_sandbox

    try:
        bwrap = require_bwrap()
    except (MissingInput, UnsupportedPlatform) as error:
        pytest.skip(str(error))
    command = [bwrap, "--unshare-all", "--ro-bind", "/", "/", "true"]
    plain = subprocess.run(command, capture_output=True, text=True, check=False)
    if plain.returncode != 0:
        pytest.skip(f"bubblewrap makes no sandbox here: {plain.stderr.strip()}")
    require_sandbox()


@pytest.fixture(scope="session")
def real_data():
    """The folder of real data files, or a skip that says so."""
    from entrobench.paths import shared_data

    folder = shared_data()
    if folder is None:
        pytest.skip(NO_FOLDER)
    return folder


@pytest.fixture(scope="session")
def real_path(real_data):
    """A function from a path below the folder of real data to what lies there, or a skip that names it."""

    def find(relative):
        path = real_data / relative
        if not path.exists():
            pytest.skip(f"{NO_FILE}{relative}")
        return path

    return find


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Tests' modules import nearly all that there is."""
    from entrobench.machine.imports import large_imports

    with large_imports():
        return (yield)


def pytest_collection_modifyitems(items):
    """Runs of training first, then files with slow tests: quick ones fill the end, where one process after
    another has no file left.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path.parent.name != "integration", item.path not in slow))


def pytest_terminal_summary(terminalreporter):
    """One line: how many tests were skipped for which missing data, and how to get them."""
    reasons = [str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", [])]
    missing = Counter(
        reason.partition(NO_FILE)[2] if NO_FILE in reason else "the whole folder"
        for reason in reasons
        if re.search(f"{re.escape(NO_FILE)}|{re.escape(NO_FOLDER)}", reason)
    )
    if missing:
        found = ", ".join(f"{number} for {name}" for name, number in sorted(missing.items()))
        terminalreporter.write_line(
            f"real data: {missing.total()} tests skipped: {found}. Put the files below the folder that "
            f"ENTROBENCH_SHARED_DATA names (../shared/data); `make verify-data` says where each comes from."
        )
