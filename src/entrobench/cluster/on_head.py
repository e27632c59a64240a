"""Runs a command on the first of several nodes, once Ray has joined them all; started by `ray symmetric-run`.

    python -m entrobench.cluster.on_head FOLDER -- COMMAND

Tells the launcher, in FOLDER/head.json, when the command starts and how it ends; passes on SIGUSR1 when
FOLDER/stop appears. Files, because a signal through srun would reach every process of Ray, on every node.
"""

import signal
import subprocess
import sys
import time
from pathlib import Path

from entrobench.files import write_json

POLL_SECONDS = 1.0
STOP_FILE = "stop"
HEAD_FILE = "head.json"


def main(folder: Path, command: list[str]) -> int:
    """Exit status of the command."""
    write_json(folder / HEAD_FILE, {"exit": None})
    process = subprocess.Popen(command)
    is_asked = False
    while process.poll() is None:
        time.sleep(POLL_SECONDS)
        if not is_asked and (folder / STOP_FILE).exists():
            is_asked = True
            process.send_signal(signal.SIGUSR1)
    write_json(folder / HEAD_FILE, {"exit": process.returncode})
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[3:]))
