"""The GPUs of a machine without a scheduler: which there are, and which of them one job has.

A job holds a lock on each of its GPUs for as long as its process lives, however it ends. Locks are a user's
own: of other people's jobs nothing is known; name the GPUs that are yours in CUDA_VISIBLE_DEVICES.
"""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from entrobench.errors import UnsupportedPlatform
from entrobench.machine.backend import gpus

POLL_SECONDS = 1.0


def machine_gpus() -> list[str]:
    """Ids of this machine's GPUs: those of CUDA_VISIBLE_DEVICES, else all that nvidia-smi shows."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [gpu.strip() for gpu in named.split(",") if gpu.strip()]
    return [str(number) for number in range(len(gpus()))]


@contextmanager
def leased(number: int, ids: Sequence[str]) -> Iterator[list[str]]:
    """`number` of the GPUs `ids` that no other job of this user has; waits until there are as many.

    Raises UnsupportedPlatform where there are fewer.
    """
    if number > len(ids):
        raise UnsupportedPlatform(
            f"this job wants {number} GPUs; this machine has {len(ids)} ({', '.join(ids) or 'none'}).\n  Set "
            f"trainer.n_gpus_per_node in the scale, or run it where there are more (docs/cluster.md)."
        )
    folder = Path(tempfile.gettempdir()) / f"entrobench-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    is_said = False
    while True:
        with ExitStack() as held:
            found: list[str] = []
            for gpu in ids:
                if len(found) < number and _is_locked(folder / f"{gpu}.lock", held):
                    found.append(gpu)
            if len(found) == number:
                yield found
                return
        if not is_said:
            print(f"entrobench: waiting for {number} of the GPUs {', '.join(ids)}", flush=True)
            is_said = True
        time.sleep(POLL_SECONDS)


def _is_locked(path: Path, held: ExitStack) -> bool:
    """Whether this process has the lock now, which `held` gives back."""
    stream: IO[str] = path.open("w")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        return False
    held.enter_context(stream)
    return True
