"""The process in which other people's checkers of function calls run: BFCL's and ACEBench's.

    python -I -S -B call_checkers.py bfcl|acebench FOLDER        FOLDER: where the checker lies

Alone with Python's standard library, so that a checker's pins meet nobody else's. One request a line in JSON,
one line out: the checker's yes or no in JSON, or null where it raised. The first line out is `ready`, or why
not. Calls come read, as {"name", "arguments"}: no checker decodes a model's text here, which for ACEBench's
would be an eval.
"""

import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

MEMORY_LIMIT_BYTES = 1 << 30
# What a checker raises on calls or golds that it was not written for
_FAILURES = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)

Check = Callable[[dict[str, Any]], bool]


def bfcl() -> Check:
    """bfcl-eval's `ast_checker`.

    It wants a table of all models of the leaderboard, which imports every vendor's client library, to learn
    one thing: whether a model writes a.b as a_b. A table with that one answer takes its place.
    """
    table = ModuleType("bfcl_eval.constants.model_config")
    table.__dict__["MODEL_CONFIG_MAPPING"] = {
        "plain": SimpleNamespace(underscore_to_dot=False),
        "underscored": SimpleNamespace(underscore_to_dot=True),
    }
    sys.modules[table.__name__] = table
    from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker

    def check(request: dict[str, Any]) -> bool:
        calls, naming = _by_name(request["calls"]), "underscored" if request["underscores"] else "plain"
        result = ast_checker(
            request["functions"], calls, request["gold"], request["language"], request["kind"], naming
        )
        return bool(result["valid"])

    return check


def acebench() -> Check:
    """ACEBench's `normal_checker`: right if one of the alternatives of the gold is met."""
    from model_eval.checker import normal_checker

    def check(request: dict[str, Any]) -> bool:
        calls = _by_name(request["calls"])
        return any(
            # the last two, question and category, decide nothing but for agents
            normal_checker(request["functions"], calls, gold, "", "normal")["valid"]
            for gold in request["gold"]
        )

    return check


def _by_name(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{call["name"]: call["arguments"]} for call in calls]


def main() -> None:
    """Serve until standard input ends."""
    name, folder = sys.argv[1:]
    sys.path.insert(0, folder)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # No handler: the kernel ends the process in the middle of a check, where the parent, who keeps the time,
    # is gone
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    # A library that prints must not answer in a checker's place
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    try:
        check = {"bfcl": bfcl, "acebench": acebench}[name]()
    except ImportError as error:
        print(json.dumps(f"{type(error).__name__}: {error}"), file=replies)
        return
    print(json.dumps("ready"), file=replies, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        signal.alarm(request["alarm"])
        try:
            answer = check(request)
        except _FAILURES:
            answer = None
        signal.alarm(0)
        print(json.dumps(answer), file=replies, flush=True)


if __name__ == "__main__":
    main()
