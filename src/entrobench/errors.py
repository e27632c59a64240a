"""One exception tree. A message says what is wrong, where, what was expected and found, and what to type."""

import os
import sys
from collections.abc import Callable

from entrobench.redact import redact


class EntrobenchError(Exception):
    """Root of the errors that this package raises on purpose; programs print them without a traceback and
    exit with exit_status.
    """

    exit_status = 1


class ConfigError(EntrobenchError, ValueError):
    """A configuration file or key is unknown, missing, or of the wrong type."""


class UnknownName(ConfigError, KeyError):
    """A cell, method, scale, model, dataset or benchmark that does not exist; the message has the nearest."""

    def __str__(self) -> str:  # KeyError would print the repr
        return str(self.args[0]) if self.args else ""


class CorruptFile(EntrobenchError, ValueError):
    """A parquet, JSONL, checkpoint or model file that cannot be read or does not match its schema."""


class PinMismatch(CorruptFile):
    """A file whose size, row count or SHA-256 differs from its pin."""


class UnsafeModel(CorruptFile):
    """A model that would run code when it is read: pickled weights, or Python files of its own."""


class MissingInput(EntrobenchError, FileNotFoundError):
    """A file, package or tool that a step needs is absent; the message names the command that makes it."""


class GatedSource(MissingInput):
    """A data set whose terms have to be accepted first; the message names the page."""


class UnsupportedPlatform(EntrobenchError, RuntimeError):
    """This machine cannot run the requested step."""


class LimitExceeded(EntrobenchError, RuntimeError):
    """A submission would take more than the site's limits allow without --go."""


class DirtyTree(EntrobenchError, RuntimeError):
    """The checkout differs from its commit, so that a run at paper scale could not be told from another."""


class TrainingFailed(EntrobenchError, RuntimeError):
    """A training run ended without reaching its last step; its checkpoints are intact."""


class Unfinished(EntrobenchError):
    """A training run was asked to stop and did; the same command goes on. Not a failure: EX_TEMPFAIL."""

    exit_status = 75


class NotEnoughSpace(EntrobenchError, OSError):
    """The file system has less room than a run will need."""


def run_script(main: Callable[[], None]) -> int:
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
