"""Snakemake's dry runs, each a fork of one process, which saves its import.

Reads JSON lines, and answers with them.

A request: `arguments` of Snakemake, `folder` to run in, `environment` to add. The answer: its output.
"""

import json
import os
import subprocess
import sys
import tempfile


def main() -> None:
    from snakemake.cli import main as snakemake

    for line in sys.stdin:
        request = json.loads(line)
        with tempfile.TemporaryFile() as output:
            child = os.fork()
            if child == 0:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                os.chdir(request["folder"])
                os.environ.update(request["environment"])
                try:
                    snakemake(request["arguments"])
                except SystemExit as end:
                    os._exit(end.code or 0)
                os._exit(1)
            _, status = os.waitpid(child, 0)
            output.seek(0)
            answer = {"status": os.waitstatus_to_exitcode(status), "output": output.read().decode()}
        print(json.dumps(answer), flush=True)


class DryRuns:
    """The process, for a checkout that `environment` names."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | environment,
            text=True,
        )

    def run(self, folder: os.PathLike[str], *arguments: str, **environment: str) -> str:
        """Output of `snakemake ARGUMENTS` in `folder`, which has to succeed."""
        request = {"arguments": arguments, "folder": str(folder), "environment": environment}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert answer["status"] == 0, answer["output"]
        return str(answer["output"])

    def close(self) -> None:
        """End it."""
        self._process.communicate()


if __name__ == "__main__":
    main()
