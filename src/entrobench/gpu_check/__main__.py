"""`python -m entrobench.gpu_check STAGE`: one stage in this process; what it found as the last line, JSON."""

import importlib
import json
import sys

import torch

name = sys.argv[1]
module = importlib.import_module(f"entrobench.gpu_check.{name}")
figures = getattr(module, f"check_{name}")()
print("\n" + json.dumps({"on_gpu": torch.cuda.is_available(), "figures": figures}))
