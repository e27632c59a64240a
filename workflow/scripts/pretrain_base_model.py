"""Pretrain the tiny base model of the smoke scale: python workflow/scripts/pretrain_base_model.py FOLDER."""

import argparse
import sys
from pathlib import Path

import torch

from entrobench.errors import run_script
from entrobench.models.tiny import Bounds, Pretraining, pretrain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the model is written")
    parser.add_argument("--steps", type=int, default=Pretraining.steps)
    parser.add_argument("--seed", type=int, default=Pretraining.seed)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--min-accuracy", type=float, default=Bounds.min_accuracy, help="in-domain mean@8")
    parser.add_argument("--max-accuracy", type=float, default=Bounds.max_accuracy, help="in-domain mean@8")
    parser.add_argument("--min-entropy", type=float, default=Bounds.min_entropy, help="nats a token")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    bounds = Bounds(arguments.min_accuracy, arguments.max_accuracy, arguments.min_entropy)
    pretrain(arguments.folder, Pretraining(steps=arguments.steps, seed=arguments.seed), bounds)


if __name__ == "__main__":
    sys.exit(run_script(main))
