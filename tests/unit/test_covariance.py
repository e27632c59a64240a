"""Clip-Cov and KL-Cov: which tokens, by hand and whatever the ranks and micro-batches, and what they do."""

import functools
import math
from pathlib import Path

import pytest
import torch
from support import make_model, random_batch
from test_verl_losses import micro_batch
from transfer_queue import KVBatchMeta
from verl.utils import tensordict_utils as tu
from verl.utils.config import omega_conf_to_dataclass
from verl.workers.utils.losses import ppo_loss

from entrobench.algorithms.covariance import CovarianceRule, choose_tokens
from entrobench.cells import resolve
from entrobench.configs import Configs
from entrobench.paths import repository_root
from entrobench.training.covariance_loss import CHOSEN_TOKENS, covariance_rule
from entrobench.training.sampling import mini_batch_rows
from entrobench.training.step_loss import StepLoss
from entrobench.training.verl_config import compose_verl_config

pytestmark = pytest.mark.slow

KL_RULE, CLIP_RULE = CovarianceRule(0.1), CovarianceRule(0.1, (0.2, 2.0))


@pytest.fixture(scope="module")
def config_of(tmp_path_factory):
    """method -> verl's actor configuration of its cell, as the driver has it."""
    folder = tmp_path_factory.mktemp("model")
    make_model(folder)

    def compose(method):
        cell = resolve(
            f"opefo/math-7b/{method}/seed0", "smoke", Configs(repository_root() / "configs"), Path("results")
        )
        overrides = cell["verl"] | {"actor_rollout_ref.model.path": str(folder)}
        return compose_verl_config(overrides).actor_rollout_ref.actor

    return functools.cache(compose)


def generator():
    return torch.Generator().manual_seed(5)


def chosen(rule, advantages, logp, mask=None):
    advantages_BT, logp_BT = torch.tensor(advantages), torch.tensor(logp)
    mask_BT = torch.ones_like(logp_BT).bool() if mask is None else torch.tensor(mask).bool()
    rows = [list(range(len(advantages)))]
    return choose_tokens(rule, advantages_BT, logp_BT, mask_BT, rows, generator()).tolist()


def test_kl_cov_takes_the_highest_covariances_by_hand():
    # A = (1, 1 | -1, -1), mean 0; log p = (-1, -3 | -1, -3), mean -2: Cov = (1, -1 | -1, 1). Half of 4: two
    assert chosen(CovarianceRule(0.5), [[1.0, 1.0], [-1.0, -1.0]], [[-1.0, -3.0], [-1.0, -3.0]]) == [
        [True, False],
        [False, True],
    ]


def test_clip_cov_takes_some_within_the_bounds_by_hand():
    # As above with log p = -5 in the last place: mean -2.5, Cov = (1.5, -.5 | -1.5, 2.5). Within (1, 2): one
    rule = CovarianceRule(0.9, (1.0, 2.0))
    assert chosen(rule, [[1.0, 1.0], [-1.0, -1.0]], [[-1.0, -3.0], [-1.0, -5.0]]) == [
        [True, False],
        [False, False],
    ]
    none_within = CovarianceRule(0.9, (3.0, 4.0))
    found = chosen(none_within, [[1.0, 1.0], [-1.0, -1.0]], [[-1.0, -3.0], [-1.0, -5.0]])
    assert found == [[False, False], [False, False]]


def test_masked_tokens_count_neither_in_the_mean_nor_among_the_chosen():
    found = chosen(
        CovarianceRule(0.5),
        [[1.0, 1.0, 50.0], [-1.0, -1.0, 50.0]],
        [[-1.0, -3.0, 9.0], [-1.0, -3.0, 9.0]],
        [[1, 1, 0], [1, 1, 0]],
    )
    assert found == [[True, False, False], [False, True, False]]


def test_one_token_is_chosen_where_the_share_is_less_than_one():
    assert sum(chosen(CovarianceRule(0.01), [[1.0, -1.0]], [[-1.0, -2.0]])[0]) == 1


def test_tokens_of_equal_covariance_are_chosen_at_random():
    # Certain tokens of one response: all of covariance 0 apart from rounding, and one in ten is chosen
    batch = [[1.0] * 100]
    places = chosen(CovarianceRule(0.1), batch, [[0.0] * 100])[0]
    assert sum(places) == 10
    assert places[:10] != [True] * 10


def arranged(ranks):
    """Rows 0 to 5 and 6 to 11 as two mini-batches of verl's on `ranks`, in any order among six padding rows
    (-1) each.
    """
    order = [-1] * 24
    shuffled = torch.randperm(12, generator=torch.Generator().manual_seed(ranks)).tolist()
    for mini_batch, first in zip(mini_batch_rows(24, ranks, 12), (0, 6), strict=True):
        for place, row in zip(mini_batch, shuffled, strict=True):
            order[place] = first + row if row < 6 else -1
    return order


@pytest.mark.parametrize("rule", [KL_RULE, CLIP_RULE])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_the_choice_is_the_same_for_any_ranks_order_and_padding(rule, ranks):
    batch = random_batch(rows=12)
    # Whole numbers: many tokens have the same covariance
    advantages_BT, logp_BT, mask_BT = batch.advantages_BT.round(), batch.stats.logp.round(), batch.mask_BT
    expected = choose_tokens(
        rule, advantages_BT, logp_BT, mask_BT, [[*range(6)], [*range(6, 12)]], generator()
    )
    assert 0 < expected[:6].sum() < mask_BT[:6].sum()
    order = arranged(ranks)
    index = torch.tensor([max(row, 0) for row in order])
    is_real = torch.tensor([row >= 0 for row in order])
    # What the trainer does: verl's mini-batches, each in the order of the data
    in_data_order = [
        sorted(rows, key=lambda row: (order[row] < 0, order[row])) for rows in mini_batch_rows(24, ranks, 12)
    ]
    found = choose_tokens(
        rule,
        advantages_BT[index],
        logp_BT[index],
        mask_BT[index] & is_real[:, None],
        in_data_order,
        generator(),
    )
    for place, row in enumerate(order):
        assert found[place].tolist() == (expected[row] if row >= 0 else torch.zeros(9).bool()).tolist()


@pytest.mark.parametrize(("rows", "ranks", "size"), [(24, 1, 8), (24, 2, 8), (24, 4, 12), (16, 4, 16)])
def test_mini_batches_are_those_that_verl_forms(rows, ranks, size):
    names = [str(row) for row in range(rows)]
    parts = KVBatchMeta(keys=names, tags=[{}] * rows, partition_id="train").chunk(ranks)
    of_ranks = []
    for part in parts:
        data = tu.get_tensordict({"row": torch.tensor([int(key) for key in part.keys])})
        kwargs = {"dataloader_kwargs": {"shuffle": False}, "seed": 1}
        batches = tu.make_iterator(data, mini_batch_size=size // ranks, epochs=1, **kwargs)
        of_ranks.append([batch["row"].tolist() for batch in batches])
    found = [[row for rank in batch for row in rank] for batch in zip(*of_ranks, strict=True)]
    assert mini_batch_rows(rows, ranks, size) == found


def total_loss(actor, log_ratio, advantages, chosen_BT, sizes):
    """The loss of a mini-batch in micro-batches of these sizes."""
    loss, start = 0.0, 0
    step_loss = StepLoss(functools.partial(ppo_loss, config=actor), {})
    for size in sizes:
        rows = slice(start, start + size)
        output, data = micro_batch(advantages[rows], log_ratio[rows], torch.zeros(size, 4))
        data[CHOSEN_TOKENS] = torch.nested.as_nested_tensor(
            list(chosen_BT[rows].float()), layout=torch.jagged
        )
        tu.assign_non_tensor(data, batch_num_tokens=advantages.numel(), global_batch_size=len(advantages))
        loss += step_loss(model_output=output, data=data)[0].item()
        start += size
    return loss


@pytest.mark.parametrize("sizes", [(4,), (2, 2), (1, 3), (1, 1, 1, 1)])
def test_the_losses_by_hand_in_micro_batches_of_any_size(config_of, sizes):
    # 16 tokens of ratio 1.05, three of them chosen. A = (1, 1, -1, 2), 4 tokens each: sum of A 12
    advantages = torch.tensor([1.0, 1.0, -1.0, 2.0])[:, None].expand(4, 4)
    log_ratio = torch.full((4, 4), math.log(1.05))
    chosen_BT = torch.zeros(4, 4).bool()
    chosen_BT[0, 1] = chosen_BT[3, 0] = chosen_BT[3, 3] = True
    kl = omega_conf_to_dataclass(config_of("kl_cov"))
    # KL-Cov: three penalties of 1.0 x ln 1.05
    expected = (-12 * 1.05 + 3 * math.log(1.05)) / 16
    assert total_loss(kl, log_ratio, advantages, chosen_BT, sizes) == pytest.approx(expected, abs=1e-6)
    clip = omega_conf_to_dataclass(config_of("clip_cov"))
    # Clip-Cov: the chosen ones, of A = 1, 2 and 2, are out
    expected = -(12 - 5) * 1.05 / 16
    assert total_loss(clip, log_ratio, advantages, chosen_BT, sizes) == pytest.approx(expected, abs=1e-6)


def test_verls_own_losses_depend_on_the_micro_batches(config_of):
    """Why the tokens are chosen by the driver: `*_released` are verl's losses."""
    advantages = torch.tensor([1.0, 1.0, -1.0, 2.0])[:, None].expand(4, 4)
    log_ratio = torch.full((4, 4), math.log(1.05))
    released = omega_conf_to_dataclass(config_of("kl_cov_released"))
    nothing = torch.zeros(4, 4).bool()
    whole, parts = (total_loss(released, log_ratio, advantages, nothing, s) for s in ((4,), (1, 1, 1, 1)))
    # One token of 16 against one of every four: three more penalties
    assert (parts - whole) * 16 == pytest.approx(3 * math.log(1.05), abs=1e-5)


def test_methods_choose_with_the_authors_fractions(config_of):
    assert covariance_rule(config_of("kl_cov")) == CovarianceRule(0.002)
    assert covariance_rule(config_of("clip_cov")) == CovarianceRule(0.0002, (1.0, 5.0))
    assert covariance_rule(config_of("kl_cov_released")) is None
    assert covariance_rule(config_of("opefo")) is None
