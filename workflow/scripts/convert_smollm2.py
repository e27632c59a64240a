"""Convert SmolLM2-135M-Instruct to HF format: python workflow/scripts/convert_smollm2.py FOLDER."""

import argparse
import sys
from pathlib import Path

from entrobench.errors import run_script
from entrobench.models.smollm2 import convert, find_gguf


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the model is written")
    parser.add_argument("--gguf", type=Path, help="GGUF file (default: that of the installed package)")
    arguments = parser.parse_args()
    convert(arguments.gguf or find_gguf(), arguments.folder)


if __name__ == "__main__":
    sys.exit(run_script(main))
