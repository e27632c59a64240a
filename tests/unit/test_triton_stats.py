"""The Triton kernels: the cases of tests/triton_cases.py, on a GPU or in Triton's interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow

if torch.cuda.is_available():
    from triton_cases import *  # noqa: F403
else:

    def test_the_cases_hold_in_the_interpreter():
        cases = Path(__file__).parents[1] / "triton_cases.py"
        found = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=0", cases],
            env=os.environ | {"TRITON_INTERPRET": "1"},
            capture_output=True,
            text=True,
        )
        assert found.returncode == 0, found.stdout[-6000:] + found.stderr[-2000:]
