"""Runs a command on the first of several nodes, once Ray has joined them all; started by `ray symmetric-run`.

    python -m entrobench.cluster.on_head FOLDER -- COMMAND

Tells the launcher, in FOLDER/head.json, when the command starts and how it ends; passes on SIGUSR1 when
FOLDER/stop appears. Files, because a signal through srun would reach every process of Ray, on every node.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from entrobench.files import write_json

POLL_SECONDS = 1.0
STOP_FILE = "stop"
HEAD_FILE = "head.json"


def main(folder: Path, command: list[str]) -> int:
    """Exit status of the command."""
    write_json(folder / HEAD_FILE, {"exit": None})
    status = run_passing_on(command, lambda: signal.SIGUSR1 if (folder / STOP_FILE).exists() else None)
    write_json(folder / HEAD_FILE, {"exit": status})
    return status


def run_passing_on(command: Sequence[str], due: Callable[[], int | None]) -> int:
    """Run a command: its exit status, 128 + n where signal n has killed it.

    due: asked every second; the first signal that it names is sent to the command, no later one.
    """
    process = subprocess.Popen(command)
    is_asked = False
    while process.poll() is None:
        time.sleep(POLL_SECONDS)
        if not is_asked and (signum := due()) is not None:
            is_asked = True
            process.send_signal(signum)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[3:]))
