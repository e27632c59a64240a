"""One exception tree. A message says what is wrong, where, what was expected and found, and what to type."""

import difflib
from collections.abc import Iterable

# Letters at the beginning of a name that show which one was meant
SHARED_BEGINNING = 4


class EntrobenchError(Exception):
    """Root of the errors raised on purpose; programs print them without a traceback and exit_status."""

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


class NotFetched(MissingInput):
    """A pinned file that a download brings and that is not on this machine yet."""


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


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean <nearest>?`, or nothing where no known name is near.

    A beginning in common counts first: papo is meant to be one of papo_*, not dapo.
    """
    names = list(known)
    alike = [k for k in names if k.startswith(name[:SHARED_BEGINNING])]
    found = difflib.get_close_matches(name, alike or names, n=1, cutoff=0.0 if alike else 0.4)
    return f" Did you mean {found[0]}?" if found else ""
