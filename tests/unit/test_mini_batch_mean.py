"""The mean over the sequences of a mini-batch is one over its real rows: not its padding, not its size."""

import functools
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
from tensordict import TensorDict
from torch import distributed
from verl.trainer.ppo.core_algos import agg_loss
from verl.utils import tensordict_utils as tu
from verl.workers.config import FSDPActorConfig
from verl.workers.utils.losses import ppo_loss

from entrobench.training.engine import TokenStatsEngine

pytestmark = pytest.mark.slow

LENGTH = 5
# Rows of one mini-batch on two ranks: tokens in the loss. 0: a padding row, which verl masks whole
LENGTHS = [[5, 2, 0, 0], [3, 1, 4, 0]]


class Engine(TokenStatsEngine):
    """TokenStatsEngine whose model answers with the old log-probabilities, and which learns nothing."""

    def __init__(self, micro_batches: list[int]) -> None:
        self.micro_batches = micro_batches
        self.module = SimpleNamespace()

    def get_data_parallel_group(self):
        return distributed.group.WORLD

    def optimizer_zero_grad(self):
        pass

    def optimizer_step(self):
        return 0.0

    def is_mp_src_rank_with_outputs(self):
        return False

    def forward_backward_batch(self, data, loss_function, forward_only=False):
        """The rank's loss, from micro-batches of these numbers of rows."""
        tokens = data["loss_mask"].values().sum()
        distributed.all_reduce(tokens)
        rows = iter(range(len(data)))
        total = 0.0
        for size in self.micro_batches:
            part = tu.index_select_tensor_dict(data, [next(rows) for _ in range(size)])
            tu.assign_non_tensor(part, dp_size=2, batch_num_tokens=int(tokens))
            logp = torch.nested.as_nested_tensor(
                [torch.cat([row, torch.zeros(1)]) for row in part["old_log_probs"].unbind()],
                layout=torch.jagged,
            )
            loss, _ = loss_function(model_output={"log_probs": logp}, data=part)
            total += loss.item()
        return total


def jagged(rows):
    return torch.nested.as_nested_tensor(rows, layout=torch.jagged)


def mini_batch(lengths, advantages):
    masks = [(torch.arange(LENGTH) < length).long() for length in lengths]
    data = TensorDict(
        {
            "prompts": jagged([torch.zeros(1, dtype=torch.long)] * len(lengths)),
            "responses": jagged([torch.zeros(LENGTH, dtype=torch.long)] * len(lengths)),
            "input_ids": jagged([torch.zeros(LENGTH + 1, dtype=torch.long)] * len(lengths)),
            "response_mask": jagged(masks),
            "loss_mask": jagged(masks),
            "old_log_probs": jagged([torch.full((LENGTH,), -1.0)] * len(lengths)),
            "advantages": jagged(list(advantages)),
        },
        batch_size=len(lengths),
    )
    # What verl sends along: the configured size of a mini-batch
    tu.assign_non_tensor(data, global_batch_size=8, max_response_len=LENGTH)
    return data


def rank(number, store, advantages, mode, micro_batches, results):
    distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=number, world_size=2, timeout=timedelta(seconds=60)
    )
    actor = FSDPActorConfig(
        strategy="fsdp", rollout_n=1, loss_agg_mode=mode, ppo_micro_batch_size_per_gpu=1, use_dynamic_bsz=True
    )
    data = mini_batch(LENGTHS[number], advantages[number])
    loss = Engine(micro_batches).train_batch(data, functools.partial(ppo_loss, config=actor))
    results.put((number, loss))
    distributed.destroy_process_group()


@pytest.mark.parametrize("micro_batches", [[4], [1, 3], [1, 1, 1, 1]])
@pytest.mark.parametrize("mode", ["seq-mean-token-mean", "seq-mean-token-sum", "token-mean"])
def test_two_ranks_make_the_mean_of_the_rows_that_exist(tmp_path, mode, micro_batches):
    generator = torch.Generator().manual_seed(3)
    advantages = [torch.randn(4, LENGTH, generator=generator) for _ in range(2)]
    context = torch.multiprocessing.get_context("fork")
    results = context.Queue()
    ranks = [
        context.Process(target=rank, args=(n, tmp_path / "store", advantages, mode, micro_batches, results))
        for n in range(2)
    ]
    for process in ranks:
        process.start()
    losses = [results.get(timeout=90)[1] for _ in ranks]
    for process in ranks:
        process.join()
    # Five rows have a token; verl's own aggregation of these rows alone, in one piece. The ratio is 1
    real = [(advantages[n][row], length) for n in range(2) for row, length in enumerate(LENGTHS[n]) if length]
    mask = torch.stack([(torch.arange(LENGTH) < length).float() for _, length in real])
    expected = agg_loss(-torch.stack([values for values, _ in real]), mask, mode)
    # FSDP averages the gradients of the ranks
    assert sum(losses) / 2 == pytest.approx(expected.item(), abs=1e-6)
