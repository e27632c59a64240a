"""Entropy accounting: a seeded slice of a run's tokens, with what the update did to them.

`token_stats.parquet`, one row a token of the slice: step, sequence, group, whether the response is correct,
length and position in it, token id and text; log p, H, sum p^2, t1 and t2 before the update; advantage,
shaped advantage, polarity P = A T and its branch; then, after all updates of the step, log p and H of the
same states, and whether the final probability ratio lies where PPO's clip takes the gradient (clipped: 1
above, -1 below). Written one file a step, joined when the run is done, so that an interrupted run loses
nothing.
"""

import random
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from entrobench.algorithms.shaper import TokenBatch
from entrobench.files import read_parquet, write_parquet
from entrobench.kernels.token_stats import TokenStats

PART = "step_{:08d}.parquet"


class TokenRecord:
    """The slice of one run: which rows of which steps, and the files that they go to."""

    def __init__(self, folder: Path, every: int, sequences: int, seed: int) -> None:
        self.parts = folder / "token_stats"
        self.every = every
        self.sequences = sequences
        self.seed = seed

    def rows(self, step: int, mask_BT: Tensor, multiple: int) -> list[int]:
        """Rows of this step's batch that are recorded, every `every` steps and in the first one: a seeded
        choice of those with response tokens.

        Their number is a multiple of `multiple`, the ranks that share a forward pass; empty on other steps.
        """
        if step % self.every and step != 1:
            return []
        candidates = mask_BT.any(1).nonzero()[:, 0].tolist()
        wanted = -(-self.sequences // multiple) * multiple
        number = min(wanted, len(candidates) // multiple * multiple)
        return sorted(random.Random(f"{self.seed}/{step}").sample(candidates, number))

    def write(self, step: int, frame: pd.DataFrame) -> None:
        """Write one step's part."""
        self.parts.mkdir(exist_ok=True)
        write_parquet(self.parts / PART.format(step), frame)

    def truncate_after(self, step: int) -> None:
        """Forget steps after `step`: a resumed run makes them again."""
        for path in self.parts.glob("step_*.parquet"):
            if int(path.stem.removeprefix("step_")) > step:
                path.unlink()

    def join(self) -> None:
        """Write token_stats.parquet from the parts, if there are any."""
        parts = sorted(self.parts.glob("step_*.parquet"))
        if parts:
            frame = pd.concat([read_parquet(path) for path in parts], ignore_index=True)
            write_parquet(self.parts.parent / "token_stats.parquet", frame)


def token_frame(
    batch: TokenBatch,
    shaped_BT: Tensor,
    tokens_BT: Tensor,
    is_correct_B: Tensor,
    after: TokenStats,
    clipped_BT: Tensor,
    decode: Callable[[int], str],
) -> pd.DataFrame:
    """One row per response token of a batch that holds the recorded rows only.

    tokens_BT: int64 (B, T). is_correct_B: bool (B,). after: TokenStats (B, T) of the same states after the
    step's updates; log p and H are read. clipped_BT: int8 (B, T), 1 above the clip range, -1 below, else 0.
    """
    mask_BT = batch.mask_BT
    polarity_BT = batch.polarity_BT()
    of_sequence_B = {
        "sequence": torch.arange(len(mask_BT)),
        "group": batch.groups_B,
        "correct": is_correct_B,
        "length": mask_BT.sum(1),
    }
    columns = {name: values[:, None].expand(mask_BT.shape) for name, values in of_sequence_B.items()}
    columns |= {
        "position": mask_BT.cumsum(1) - 1,
        "token": tokens_BT,
        "logp": batch.stats.logp,
        "entropy": batch.stats.entropy,
        "sum_p2": batch.stats.sum_p2,
        "t1": batch.stats.t1,
        "t2": batch.stats.t2,
        "advantage": batch.advantages_BT,
        "shaped_advantage": shaped_BT,
        "polarity": polarity_BT,
        "branch": polarity_BT.sign().to(torch.int8),
        "clipped": clipped_BT,
        "logp_after": after.logp,
        "entropy_after": after.entropy,
    }
    frame = pd.DataFrame({name: values[mask_BT].numpy() for name, values in columns.items()})
    texts = {token: decode(token) for token in frame["token"].unique().tolist()}
    return frame.assign(step=batch.step, text=frame["token"].map(texts))
