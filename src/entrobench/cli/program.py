"""How a program of ours ends: errors as text, exit statuses, file modes."""

import os
import sys
from collections.abc import Callable

from entrobench.errors import EntrobenchError
from entrobench.provenance.redaction import redact


def run_script(main: Callable[[], object]) -> int:
    """Run `main` as a program: 0, or the error's exit_status (1; 75 for Unfinished) with its text and no
    traceback, or 130 when interrupted.

    What it writes is not writable by others, whatever the umask was; a stricter umask stays.
    """
    os.umask(os.umask(0o022) | 0o022)
    try:
        main()
    except EntrobenchError as error:
        print(redact(f"{type(error).__name__}: {error}"), file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("interrupted; what is finished is kept, the same command goes on from there", file=sys.stderr)
        return 130
    return 0
