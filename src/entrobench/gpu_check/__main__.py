"""`python -m entrobench.gpu_check STAGE`: one stage in this process; its figures as the last line, JSON."""

import importlib
import json
import sys

name = sys.argv[1]
module = importlib.import_module(f"entrobench.gpu_check.{name}")
print("\n" + json.dumps(getattr(module, f"check_{name}")()))
