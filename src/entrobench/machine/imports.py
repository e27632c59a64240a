"""Imports of large libraries, with garbage collection at rest."""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def large_imports() -> Iterator[None]:
    """Import torch, verl, vLLM and the like inside.

    What they make stays: every collection on the way would look through all of it for nothing, a fifth of an
    import's seconds, and so would every later one.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        atexit.register(gc.unfreeze)  # or Triton's library calls it leaked, on as many lines as hide an error
