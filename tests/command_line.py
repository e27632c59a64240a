"""The command line in this process, as a user types it."""

import pytest

from entrobench.cli.app import app


def entrobench(*arguments: object) -> int:
    """Exit status of `entrobench ARGUMENTS`; what it prints is capsys's."""
    with pytest.raises(SystemExit) as end:
        app([str(argument) for argument in arguments], prog_name="entrobench")
    return int(end.value.code or 0)
