"""The grading process: reads [answer, gold] as JSON lines, writes one verdict a line. It may be killed at any
time.
"""

import json
import resource
import sys

from math_verify import parse, verify

MEMORY_LIMIT_BYTES = 4 << 30


def compare(answer: str, gold: str) -> str:
    """Verdict of math-verify on an extracted answer; `error` when the gold answer itself cannot be read or
    the comparison fails, which math-verify by itself would call unequal.

    Its own time limits are alarms, which C code does not see; the parent's hard limit is the real one.
    """
    try:
        parsed_gold = parse(f"${gold}$", parsing_timeout=None)
        if not parsed_gold:
            return "error"
        parsed_answer = parse(f"${answer}$", parsing_timeout=None)
        is_equal = verify(parsed_gold, parsed_answer, timeout_seconds=None, raise_on_error=True)
        return "correct" if is_equal else "incorrect"
    except (ArithmeticError, ValueError, TypeError, RecursionError, MemoryError, AttributeError):
        return "error"


def main() -> None:
    """Serve until standard input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    print("ready", flush=True)
    for line in sys.stdin:
        print(compare(*json.loads(line)), flush=True)


if __name__ == "__main__":
    main()
