"""What runs inside the sandbox of code_sandbox.py, in one of two roles. Needs the standard library alone.

    in_sandbox.py candidate FD     the model's program, which answers calls of its function
    in_sandbox.py checks FD        the data's tests, which make the calls and compare what comes back

Each role is a process in a sandbox of its own; FD is a socket to the other. So nothing that the program does
(end the process, replace `abs` or `math.fabs`, return an object that equals everything) reaches the
comparison: a value crosses the socket as plain data, and what is none equals nothing.

Standard input holds the role's job as JSON. The checks write to standard output `started`, then `passed`,
`failed` or `gold <reason>`, for tests that do not run by themselves.
"""

import json
import os
import resource
import socket
import sys
from typing import Any

CPU_SECONDS = 5
MEMORY_BYTES = 1 << 30
MESSAGE_BYTES = 16 << 20
LIMITS = {
    resource.RLIMIT_CPU: CPU_SECONDS,
    resource.RLIMIT_AS: MEMORY_BYTES,
    resource.RLIMIT_FSIZE: 0,
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_NOFILE: 32,
}
CONTAINERS = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}


class Channel:
    """Messages, a JSON line each, to and from the other role."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._stream = self._socket.makefile("rb")

    def send(self, message: object) -> None:
        self._socket.sendall(json.dumps(message).encode("ascii") + b"\n")

    def receive(self) -> Any:
        """Raises EOFError once the other role has ended, ValueError for what is no message."""
        line = self._stream.readline(MESSAGE_BYTES)
        if not line.endswith(b"\n"):
            raise EOFError
        return json.loads(line)


def plain(value: object) -> object:
    """A value as JSON that keeps apart what JSON does not; {"other": null} for what is no plain data."""
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, bytes | bytearray):
        return {"bytes": value.hex()}
    if isinstance(value, dict):
        return {"dict": [[plain(key), plain(item)] for key, item in value.items()]}
    for name, container in CONTAINERS.items():
        if isinstance(value, container):
            return {name: [plain(item) for item in value]}
    return {"other": None}


def value_of(message: Any) -> Any:
    """The value that `plain` wrote. Raises ValueError, TypeError or LookupError for anything else."""
    if not isinstance(message, dict):
        return message
    ((name, content),) = message.items()
    if name == "complex":
        return complex(*content)
    if name == "bytes":
        return bytes.fromhex(content)
    if name == "dict":
        return {value_of(key): value_of(item) for key, item in content}
    if name == "other":
        return object()
    return CONTAINERS[name](value_of(item) for item in content)


def answer_calls(job: dict, channel: Channel) -> None:
    """The candidate: run the sources one after the other, then answer until the other role ends."""
    channel.send("ready")
    names: dict = {}
    for source in job["sources"]:
        exec(source, names)
    function = names[job["entry_point"]]
    while True:
        arguments, options = channel.receive()
        channel.send(plain(function(*value_of(arguments), **value_of(options))))


def check(job: dict, channel: Channel) -> str:
    """The checks: `passed`, `failed`, or what is wrong with the tests themselves."""
    names: dict = {}
    try:
        exec(job["prompt"], names)
        exec(job["test"], names)
        test = names["check"]
    except BaseException as error:  # noqa: BLE001  whatever the tests raise
        return f"gold {type(error).__name__}: {error}".replace("\n", " ")[:300]

    def candidate(*arguments: object, **options: object) -> object:
        channel.send([plain(arguments), plain(options)])
        return value_of(channel.receive())

    names[job["entry_point"]] = candidate
    try:
        test(candidate)
    except BaseException:  # noqa: BLE001  whatever they make of the candidate's answers
        return "failed"
    return "passed"


def main(role: str, descriptor: int) -> None:
    for limit, value in LIMITS.items():
        resource.setrlimit(limit, (value, value))
    job, channel = json.load(sys.stdin), Channel(descriptor)
    report = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
    os.dup2(2, 1)  # what a program or a test prints goes where standard error goes, to nothing
    if role == "candidate":
        answer_calls(job, channel)
        return
    if channel.receive() == "ready":
        print("started", file=report, flush=True)
        print(check(job, channel), file=report, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
