"""Python literals, read in one thread at a time.

CPython 3.11 counts the depth of a syntax tree for all threads together: where two build one at once, either
may end in "SystemError: AST constructor recursion depth mismatch".
"""

import ast
import threading
from typing import Any

_LOCK = threading.Lock()


def literal(text: str) -> Any:
    """The value of a Python literal; nothing is called, whatever it says.

    Raises what ast.literal_eval raises: ValueError, SyntaxError, TypeError, MemoryError or RecursionError.
    """
    with _LOCK:
        return ast.literal_eval(text)
