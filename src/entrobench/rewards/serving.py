"""What every grading process does: read requests as JSON lines, write a line for each reply.

It may be killed at any time, by its parent at the time limit, and by the kernel if the parent is gone.
"""

import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

MEMORY_LIMIT_BYTES = 2 << 30

Answer = Callable[[dict[str, Any]], Iterator[str]]


def serve(load: Callable[[], Answer]) -> None:
    """Serve until standard input ends. First line out: `ready`, or why the graders cannot be loaded.

    Each request has `alarm`, the seconds after which a reply is no longer waited for.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # No handler: the kernel ends the process, whatever code it is in. For a parent that is no longer there.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    # A library that prints must not answer in a grader's place
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
        answer = load()
    except (ImportError, AssertionError, OSError) as error:
        reason = f"{type(error).__name__}: {error}".replace("\n", " ")
        print(reason.encode("ascii", "replace").decode(), file=replies)
        return
    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        signal.alarm(request["alarm"])
        for reply in answer(request):
            print(reply, file=replies, flush=True)
            signal.alarm(request["alarm"])
        signal.alarm(0)
