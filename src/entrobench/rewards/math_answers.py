"""Grades a mathematical answer: `correct | incorrect | error`, never a crash, never a hang.

The last balanced \\boxed{} of the completion is compared with the gold answer. Integers are compared here;
everything else by math-verify in a worker process, because sympy can run for ever on a short answer and
neither an alarm signal nor a thread can stop it. The worker is killed at a time limit; what it could not
decide is an `error`.
"""

import atexit
import json
import re
import select
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

from entrobench.errors import MissingInput

Verdict = Literal["correct", "incorrect", "error"]

TIME_LIMIT_SECONDS = 5.0
START_LIMIT_SECONDS = 60.0
MAX_ANSWER_CHARACTERS = 300
_INTEGER = re.compile(r"([+-]?)\s*0*(\d{1,40})(?:\.0*)?")
_THOUSANDS = re.compile(r"[+-]?\s*\d{1,3}(?:,\d{3})+(?:\.0*)?|[+-]?\s*\d{1,3}(?: \d{3})+(?:\.0*)?")
_BOX_OR_BRACE = re.compile(r"\\(?:boxed|fbox)\s*\{|(?<!\\)\\[{}]|[{}]")


@dataclass(frozen=True)
class Grade:
    """One verdict. `extracted` is the answer as it stood in the box, None where there is no box."""

    extracted: str | None
    verdict: Verdict
    seconds: float


def extract_boxed(text: str) -> str | None:
    """Content of the last \\boxed{...} or \\fbox{...} with balanced braces, stripped; None without one.

    An escaped brace is text, as in LaTeX. One pass, whatever the text: a policy that repeats \\boxed{ until
    its last token must not stall the reward workers.
    """
    open_starts: list[int | None] = []  # of each open brace: where its content starts if it is a box's
    start, end = -1, -1
    for token in _BOX_OR_BRACE.finditer(text):
        if token.group() == "}":
            opened = open_starts.pop() if open_starts else None
            if opened is not None and opened > start:
                start, end = opened, token.start()
        elif token.group().endswith("{") and token.group() != r"\{":
            open_starts.append(token.end() if token.group() != "{" else None)
    return text[start:end].strip() if start >= 0 else None


def canonical_integer(answer: str) -> int | None:
    """The integer that `answer` writes, or None: 025, 27.0, 1,234, 1 234, 10{,}000, $-3$, +7. Not `1 2`."""
    text = answer.strip().strip("$").replace("{,}", ",").replace("\\,", "").replace("\\!", "")
    text = text.replace("−", "-").strip()
    if _THOUSANDS.fullmatch(text):
        text = re.sub(r"[,\s]", "", text)
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
    """One process that compares answers, started at first use and anew after it was killed.

    A plain child with pipes: multiprocessing would import the caller's main module again, which in verl's
    reward workers is Ray's.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def compare(self, answer: str, gold: str) -> Verdict:
        """`error` when the worker does not answer within TIME_LIMIT_SECONDS, dies, or cannot be started.

        Raises MissingInput without math-verify: every answer would be an error, every reward 0.
        """
        if find_spec("math_verify") is None:
            raise MissingInput("math-verify is not installed; type: pip install math-verify==0.9.0")
        with self._lock:
            try:
                process = self._running()
                assert process.stdin is not None
                process.stdin.write(json.dumps([answer, gold]) + "\n")
                process.stdin.flush()
                return self._read_line(process, TIME_LIMIT_SECONDS)
            except (OSError, TimeoutError):
                self.stop()
                return "error"

    def _running(self) -> "subprocess.Popen[str]":
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "entrobench.rewards.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
            )
            self._read_line(self._process, START_LIMIT_SECONDS)
        return self._process

    @staticmethod
    def _read_line(process: "subprocess.Popen[str]", seconds: float) -> Any:
        assert process.stdout is not None
        if not select.select([process.stdout], [], [], seconds)[0]:
            raise TimeoutError
        line = process.stdout.readline().strip()
        if not line:
            raise BrokenPipeError("the grading process ended")
        return line

    def stop(self) -> None:
        """Kill the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                with suppress(OSError):  # what was still buffered has nobody to go to
                    stream.close()  # type: ignore[union-attr]
        self._process = None


_WORKER = _Worker()
atexit.register(_WORKER.stop)
