"""Grades a mathematical answer: `correct | incorrect | error`, never a crash, never a hang.

The last balanced \\boxed{} of the completion is compared with the gold answer. Integers are compared here; everything
else by math-verify in a worker process, because sympy can run for ever on a short answer and neither an alarm signal
nor a thread can stop it. The worker is killed at a time limit; what it could not decide is an `error`.
"""

import atexit
import multiprocessing
import re
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal

Verdict = Literal["correct", "incorrect", "error"]

TIME_LIMIT_SECONDS = 5.0
START_LIMIT_SECONDS = 60.0
MEMORY_LIMIT_BYTES = 4 << 30
MAX_ANSWER_CHARACTERS = 300
_INTEGER = re.compile(r"([+-]?)0*(\d{1,40})(?:\.0*)?")


@dataclass(frozen=True)
class Grade:
    """One verdict. `extracted` is the answer as it stood in the box, None where there is no box."""

    extracted: str | None
    verdict: Verdict
    seconds: float


def extract_boxed(text: str) -> str | None:
    """Content of the last \\boxed{...} or \\fbox{...} with balanced braces, stripped; None if there is none."""
    for match in reversed(list(re.finditer(r"\\(?:boxed|fbox)\s*\{", text))):
        depth = 0
        for position in range(match.end() - 1, len(text)):
            if text[position] == "{":
                depth += 1
            elif text[position] == "}":
                depth -= 1
                if depth == 0:
                    return text[match.end() : position].strip()
    return None


def canonical_integer(answer: str) -> int | None:
    """The integer that `answer` writes, or None: 025, 27.0, 1,234, 10{,}000, $-3$, +7."""
    text = answer.strip().strip("$").replace("{,}", ",").replace("\\,", "").replace("\\!", "").replace("−", "-")
    text = re.sub(r"\s+", "", text)
    if re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+(\.0*)?", text):
        text = text.replace(",", "")
    match = _INTEGER.fullmatch(text)
    return int(match.group(1) + match.group(2)) if match else None


def grade(completion: str, gold: str) -> Grade:
    """Grade a completion against a gold answer given as a string. May be called from any thread."""
    started = time.monotonic()
    extracted = extract_boxed(completion)
    verdict = "incorrect" if extracted is None else _compare(extracted, gold)
    return Grade(extracted, verdict, time.monotonic() - started)


def _compare(answer: str, gold: str) -> Verdict:
    expected, found = canonical_integer(gold), canonical_integer(answer)
    if expected is not None and found is not None:
        return "correct" if expected == found else "incorrect"
    if answer.strip() == gold.strip():
        return "correct"
    if len(answer) > MAX_ANSWER_CHARACTERS:
        return "incorrect" if expected is not None else "error"
    return _WORKER.compare(answer, gold)


class _Worker:
    """One process that compares answers, started at first use and anew after it was killed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None

    def compare(self, answer: str, gold: str) -> Verdict:
        with self._lock:
            connection = self._connected()
            if connection is None:
                return "error"
            try:
                connection.send((answer, gold))
                if connection.poll(TIME_LIMIT_SECONDS):
                    return connection.recv()
            except (EOFError, OSError):
                pass  # the worker died, of its memory limit for instance
            self._stop()
            return "error"

    def _connected(self) -> Connection | None:
        if self._process is not None and self._process.is_alive():
            return self._connection
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may deadlock
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        self._process, self._connection = process, ours
        if ours.poll(START_LIMIT_SECONDS) and ours.recv() == "ready":
            return ours
        self._stop()
        return None

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
        self._process = self._connection = None


def _serve(connection: Connection) -> None:
    import resource

    from math_verify import parse, verify

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    connection.send("ready")
    while True:
        try:
            answer, gold = connection.recv()
        except EOFError:
            return
        connection.send(_verdict(answer, gold, parse, verify))


def _verdict(answer: str, gold: str, parse: Any, verify: Any) -> Verdict:
    # The time limits of math-verify are alarms, which C code does not see; the parent's limit is the real one
    parsed_gold = parse(f"${gold}$", parsing_timeout=None)
    if not parsed_gold:
        return "error"
    try:
        parsed_answer = parse(f"${answer}$", parsing_timeout=None)
        return "correct" if verify(parsed_gold, parsed_answer, timeout_seconds=None) else "incorrect"
    except (ArithmeticError, ValueError, TypeError, RecursionError, MemoryError, AttributeError):
        return "error"


_WORKER = _Worker()
atexit.register(_WORKER._stop)
