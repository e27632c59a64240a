"""Imports with garbage collection at rest."""

import subprocess
import sys

SCRIPT = """
import atexit, gc
from entrobench.machine.imports import large_imports
atexit.register(lambda: print("left frozen:", gc.get_freeze_count()))
with large_imports():
    print("inside:", gc.isenabled())
    kept = [[] for _ in range(1000)]
print("after:", gc.isenabled(), gc.get_freeze_count() > 1000)
"""


def test_collection_rests_then_goes_on_without_what_was_imported_and_at_the_end_with_it():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["inside: False", "after: True True", "left frozen: 0"]
