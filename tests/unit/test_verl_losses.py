"""Methods that are settings of verl: what verl computes with them, against arithmetic by hand.

Each test takes the settings from the method's own cell, so that a wrong value in its YAML shows here.
"""

import functools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from support import make_model
from tensordict import TensorDict
from verl.trainer.ppo.core_algos import get_adv_estimator_fn, get_policy_loss_fn
from verl.utils import tensordict_utils as tu
from verl.utils.config import omega_conf_to_dataclass
from verl.workers.utils.losses import ppo_loss

from entrobench.cells import resolve
from entrobench.configs import Configs
from entrobench.paths import repository_root
from entrobench.training.step_loss import ACTOR_SETTINGS, StepLoss, with_settings
from entrobench.training.verl_config import compose_verl_config

pytestmark = pytest.mark.slow

CONFIGS = Configs(repository_root() / "configs")
ONES = torch.ones(2, 4)


@pytest.fixture(scope="module")
def config_of(tmp_path_factory):
    """method -> verl's configuration of its cell."""
    folder = tmp_path_factory.mktemp("model")
    make_model(folder)

    @functools.cache
    def compose(method: str):
        paper = CONFIGS.method(method).paper
        experiment = next(iter(CONFIGS.protocol(paper).experiments))
        cell = resolve(f"{paper}/{experiment}/{method}/seed0", "smoke", CONFIGS, Path("results"))
        return compose_verl_config(cell["verl"] | {"actor_rollout_ref.model.path": str(folder)})

    return compose


@pytest.fixture(scope="module")
def actor_of(config_of):
    """method -> verl's ActorConfig of its cell."""
    return functools.cache(lambda method: omega_conf_to_dataclass(config_of(method).actor_rollout_ref.actor))


def loss_of(actor, log_ratio, advantages, old_log_prob=None, mask=ONES):
    """verl's policy loss with the actor's settings, aggregated as they say, on one mini-batch."""
    old = torch.full_like(advantages, -1.0) if old_log_prob is None else old_log_prob
    torch.manual_seed(0)
    actor.global_batch_info.update(
        dp_size=1, batch_num_tokens=int(mask.sum()), global_batch_size=len(mask), loss_scale_factor=None
    )
    loss, metrics = get_policy_loss_fn(actor.policy_loss.loss_mode)(
        old_log_prob=old,
        log_prob=old + log_ratio,
        advantages=advantages,
        response_mask=mask,
        loss_agg_mode=actor.loss_agg_mode,
        config=actor,
    )
    return loss.item(), metrics


GRPO_LIKE = ["grpo", "dapo", "exchange_grpo", "repo_grpo", "opefo_grpo", "grpo_on_policy"]
RLOO_LIKE = ["rloo", "loop", "repo_dapo", "gspo"]


@pytest.mark.parametrize("method", GRPO_LIKE + RLOO_LIKE)
def test_advantages_of_a_group_by_hand(config_of, method):
    # Rewards (1, 0, 0, 0). GRPO: mean 1/4, std (n - 1) = sqrt((.75^2 + 3 * .25^2) / 3) = 1/2 -> (1.5, -.5,
    # -.5, -.5) RLOO: r_i minus the mean of the others: 1 - 0 = 1 and 0 - 1/3 = -1/3
    algorithm = config_of(method).algorithm
    rewards = torch.zeros(4, 2)
    rewards[0, 1] = 1.0
    options = {"norm_adv_by_std_in_grpo": algorithm.norm_adv_by_std_in_grpo} if method in GRPO_LIKE else {}
    advantages, _ = get_adv_estimator_fn(algorithm.adv_estimator)(
        token_level_rewards=rewards, response_mask=torch.ones(4, 2), index=np.array([0] * 4), **options
    )
    expected = [1.5, -0.5, -0.5, -0.5] if method in GRPO_LIKE else [1.0, -1 / 3, -1 / 3, -1 / 3]
    assert advantages[:, 0].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("method", "high"),
    [
        *[(method, 1.2) for method in ("grpo", "opefo_grpo", "loop", "repo_grpo")],
        *[(method, 1.28) for method in ("dapo", "clip_higher", "exchange_grpo", "repo_dapo")],
    ],
)
def test_the_clip_range_by_hand(actor_of, method, high):
    # Ratios (1.25, .75, 1.5, 1). Row 0, A = 1: min(r, clip(r)): min(1.25, high), .75, high, 1
    # Row 1, A = -1: the larger of -r and -clip(r) in size: 1.25, max(.75, .8) = .8, 1.5, 1
    ratio = torch.tensor([[1.25, 0.75, 1.5, 1.0]] * 2)
    advantages = torch.tensor([[1.0] * 4, [-1.0] * 4])
    loss, _ = loss_of(actor_of(method), ratio.log(), advantages)
    gained = min(1.25, high) + 0.75 + high + 1.0
    lost = 1.25 + 0.8 + 1.5 + 1.0
    assert loss == pytest.approx((lost - gained) / 8, abs=1e-6)


@pytest.mark.parametrize("method", ["grpo", "dapo", "exchange_grpo", "repo_grpo", "loop", "opefo_grpo"])
def test_a_negative_advantage_has_no_second_clip(actor_of, method):
    # Ratio 3.5, A = -1: the objective is -3.5 whatever the clip range; verl's default cuts it at 3
    loss, _ = loss_of(actor_of(method), torch.full((2, 4), 3.5).log(), torch.full((2, 4), -1.0))
    assert loss == pytest.approx(3.5, abs=1e-5)


@pytest.mark.parametrize(
    ("method", "expected"),
    # Row 0 has 4 tokens of loss -1, row 1 one token of loss +1. Tokens: (-4 + 1) / 5; sequences: (-1 + 1) / 2
    [
        ("grpo", 0.0),
        ("rloo", 0.0),
        ("loop", 0.0),
        ("dapo", -0.6),
        ("exchange_grpo", -0.6),
        ("opefo_grpo", -0.6),
    ],
)
def test_the_aggregation_by_hand(actor_of, method, expected):
    mask = torch.tensor([[1.0, 1, 1, 1], [1, 0, 0, 0]])
    advantages = torch.tensor([[1.0] * 4, [-1.0] * 4])
    loss, _ = loss_of(actor_of(method), torch.zeros(2, 4), advantages, mask=mask)
    assert loss == pytest.approx(expected, abs=1e-6)


def test_gspo_clips_the_whole_response_by_hand(actor_of):
    # Row 0, A = 1: log ratios (.004, 0, 0, 0) -> mean .001, s = 1.0010005 > 1.0004: clipped to 1.0004
    # Row 1, A = -1: log ratios -.001 -> s = .9990005 < .9997: clipped to .9997 as its loss is the larger
    log_ratio = torch.tensor([[0.004, 0.0, 0.0, 0.0], [-0.001] * 4])
    loss, metrics = loss_of(actor_of("gspo"), log_ratio, torch.tensor([[1.0] * 4, [-1.0] * 4]))
    assert loss == pytest.approx((-1.0004 + 0.9997) / 2, abs=1e-6)
    assert metrics["actor/pg_clipfrac"] == 1.0


def many_tokens():
    """A mini-batch of 5,000 tokens: the first 40 have a covariance far above all others."""
    generator = torch.Generator().manual_seed(1)
    advantages = torch.randn(10, 500, generator=generator) * 0.1
    log_prob = -torch.rand(10, 500, generator=generator)
    # A = 2 and log p = +2 above the mean: covariance about 4
    advantages[0, :40], log_prob[0, :40] = 2.0, log_prob.mean() + 2.0
    return advantages, log_prob


def test_kl_cov_penalises_two_in_a_thousand_tokens(actor_of):
    # 5,000 tokens, 0.002 -> 10 of them carry |log ratio|, times 1.0, on top of the loss of PPO without a clip
    advantages, log_prob = many_tokens()
    log_ratio = torch.full_like(advantages, 0.05)
    actor = actor_of("kl_cov_released")
    loss, _ = loss_of(actor, log_ratio, advantages, log_prob - log_ratio, torch.ones(10, 500))
    plain = (-advantages * math.exp(0.05)).mean().item()
    penalised = (loss - plain) * 5000 / 0.05
    assert penalised == pytest.approx(10, abs=0.05)
    assert actor.policy_loss.ppo_kl_coef == 1.0, "verl's default is 0.1"


def test_clip_cov_takes_two_in_ten_thousand_tokens_out(actor_of):
    # 5,000 tokens, 0.0002 -> 1 token of those with covariance in (1, 5) loses its gradient: 2 e^.05 / 5000
    advantages, log_prob = many_tokens()
    log_ratio = torch.full_like(advantages, 0.05)
    loss, metrics = loss_of(
        actor_of("clip_cov_released"), log_ratio, advantages, log_prob - log_ratio, torch.ones(10, 500)
    )
    plain = (-advantages * math.exp(0.05)).mean().item()
    assert (loss - plain) * 5000 == pytest.approx(2 * math.exp(0.05), rel=1e-3)
    assert metrics["actor/pg_clipfrac"] == pytest.approx(1 / 5000)


def test_covariance_methods_leave_out_the_ratio_clip(actor_of):
    # ratio 1.5 with A = 1 and no covariance: unclipped, -1.5
    for method in ("clip_cov_released", "kl_cov_released"):
        advantages, log_ratio = torch.ones(2, 4), torch.full((2, 4), math.log(1.5))
        loss, _ = loss_of(actor_of(method), log_ratio, advantages)
        # KL-Cov's one token of eight adds |log 1.5|
        extra = math.log(1.5) / 8 if method == "kl_cov_released" else 0.0
        assert loss == pytest.approx(-1.5 + extra, abs=1e-5), method


def jagged(values: torch.Tensor) -> torch.Tensor:
    return torch.nested.as_nested_tensor(list(values), layout=torch.jagged)


def micro_batch(advantages, log_ratio, entropy):
    """(model_output, data) as the engine hands them to the loss: prompts of one token, responses of four."""
    rows = len(advantages)
    old = torch.full_like(advantages, -1.0)

    def whole(values):  # position i predicts token i + 1; the last position means nothing
        return jagged(torch.cat([values, torch.zeros(rows, 1)], dim=1))

    data = TensorDict(
        {
            "prompts": jagged(torch.zeros(rows, 1, dtype=torch.long)),
            "responses": jagged(torch.zeros(rows, 4, dtype=torch.long)),
            "input_ids": jagged(torch.zeros(rows, 5, dtype=torch.long)),
            "response_mask": jagged(torch.ones(rows, 4)),
            "old_log_probs": jagged(old),
            "advantages": jagged(advantages),
        },
        batch_size=rows,
    )
    tu.assign_non_tensor(
        data, dp_size=1, batch_num_tokens=4 * rows, global_batch_size=rows, max_response_len=4
    )
    return {"log_probs": whole(old + log_ratio), "entropy": whole(entropy)}, data


@pytest.mark.parametrize(
    ("method", "coefficient"), [("ent_reg", 0.001), ("opefo_ent_reg", 0.01), ("dapo", 0.0)]
)
def test_the_entropy_bonus_by_hand(actor_of, method, coefficient):
    # ratio 1, A = 1 in row 0 and -1 in row 1: the policy part is 0. Mean entropy (.2 * 4 + .6 * 4) / 8 = .4
    output, data = micro_batch(
        torch.tensor([[1.0] * 4, [-1.0] * 4]), torch.zeros(2, 4), torch.tensor([[0.2] * 4, [0.6] * 4])
    )
    loss, _ = ppo_loss(config=actor_of(method), model_output=output, data=data)
    assert loss.item() == pytest.approx(-0.4 * coefficient, abs=1e-7)


def test_a_controllers_values_reach_the_loss_of_this_step_only(actor_of):
    # ratio 1.25 with A = 1: clip_ratio_high 0.2 gives -1.2, 0.3 gives -1.25
    actor = actor_of("grpo")
    output, data = micro_batch(torch.ones(2, 4), torch.full((2, 4), math.log(1.25)), torch.ones(2, 4))
    verl_loss = functools.partial(ppo_loss, config=actor)
    settings = {"clip_ratio_high": 0.3, "entropy_coeff": 0.1}
    tu.assign_non_tensor(data, **{ACTOR_SETTINGS: settings})
    loss, metrics = StepLoss(verl_loss, settings)(model_output=output, data=data)
    assert loss.item() == pytest.approx(-1.25 - 0.1, abs=1e-6)
    assert metrics["actor/clip_ratio_high"].aggregate() == 0.3
    assert metrics["actor/clip_fraction_upper"].aggregate() == 0.0
    loss, metrics = StepLoss(verl_loss, {})(model_output=output, data=data)
    assert loss.item() == pytest.approx(-1.2, abs=1e-6), "verl's own configuration is as it was"
    assert metrics["actor/clip_fraction_upper"].aggregate() == 1.0


def test_upper_and_lower_clip_fractions_are_told_apart(actor_of):
    # 8 tokens. A = 1: one ratio of 1.5 is above 1.28. A = -1: two ratios of .5 are below .8; 1.5 is not
    # clipped
    ratio = torch.tensor([[1.5, 1.0, 0.5, 1.0], [0.5, 0.5, 1.5, 1.0]])
    output, data = micro_batch(torch.tensor([[1.0] * 4, [-1.0] * 4]), ratio.log(), torch.ones(2, 4))
    _, metrics = StepLoss(functools.partial(ppo_loss, config=actor_of("dapo")), {})(
        model_output=output, data=data
    )
    assert metrics["actor/clip_fraction_upper"].aggregate() == pytest.approx(1 / 8)
    assert metrics["actor/clip_fraction_lower"].aggregate() == pytest.approx(2 / 8)
    assert "actor/flow_clipped_upper" not in metrics, "without the entropy of the policy before"
    # dH = -A (1 - p)² (log p + H), log p = -1. Above: A = 1, H = .5. Below: A = -1, H = 2
    data["entropy"] = jagged(torch.tensor([[0.5] * 4, [2.0] * 4]))
    _, metrics = StepLoss(functools.partial(ppo_loss, config=actor_of("dapo")), {})(
        model_output=output, data=data
    )
    rest = (1 - math.exp(-1)) ** 2
    assert metrics["actor/flow_clipped_upper"].aggregate() == pytest.approx(0.5 * rest)
    assert metrics["actor/flow_clipped_lower"].aggregate() == pytest.approx(2 * rest)


@pytest.mark.parametrize("sizes", [(4,), (2, 2), (1, 3), (1, 1, 1, 1)])
@pytest.mark.parametrize("method", ["dapo", "grpo", "gspo"])
def test_micro_batches_of_any_size_make_up_the_mini_batch(actor_of, method, sizes):
    generator = torch.Generator().manual_seed(5)
    advantages = torch.randn(4, 1, generator=generator).expand(4, 4)
    log_ratio = torch.randn(4, 4, generator=generator) * (1e-3 if method == "gspo" else 0.4)
    entropy = torch.rand(4, 4, generator=generator)
    step_loss = StepLoss(functools.partial(ppo_loss, config=actor_of(method)), {"entropy_coeff": 0.1})

    def total(parts):
        loss, fractions, start = 0.0, [0.0, 0.0], 0
        for size in parts:
            rows = slice(start, start + size)
            output, data = micro_batch(advantages[rows], log_ratio[rows], entropy[rows])
            # What verl hands to every micro-batch of a mini-batch is the size of the whole
            tu.assign_non_tensor(data, batch_num_tokens=16, global_batch_size=4)
            part, metrics = step_loss(model_output=output, data=data)
            loss += part.item()
            for index, side in enumerate(("upper", "lower")):
                fractions[index] += metrics[f"actor/clip_fraction_{side}"].aggregate()
            start += size
        return loss, fractions

    whole_loss, whole_fractions = total((4,))
    loss, fractions = total(sizes)
    assert loss == pytest.approx(whole_loss, abs=1e-6)
    assert fractions == pytest.approx(whole_fractions)
    assert max(whole_fractions) > 0


def test_kl_cov_without_its_coefficient_is_ppo_without_a_clip(actor_of):
    advantages, log_prob = many_tokens()
    log_ratio = torch.full_like(advantages, 0.05)
    actor = with_settings(actor_of("kl_cov_released"), {"policy_loss.ppo_kl_coef": 0.0})
    loss, _ = loss_of(actor, log_ratio, advantages, log_prob - log_ratio, torch.ones(10, 500))
    assert loss == pytest.approx((-advantages * math.exp(0.05)).mean().item(), abs=1e-6)


def test_verl_refuses_a_covariance_fraction_of_zero(actor_of):
    # The limit "fraction 0 is PPO" is out of reach: verl takes at least one token of every micro-batch
    for method, key in (("kl_cov_released", "kl_cov_ratio"), ("clip_cov_released", "clip_cov_ratio")):
        actor = with_settings(actor_of(method), {f"policy_loss.{key}": 0.0})
        with pytest.raises(AssertionError):
            loss_of(actor, torch.zeros(2, 4), ONES)


def test_nested_settings_change_a_copy(actor_of):
    actor = actor_of("dapo")
    changed = with_settings(actor, {"policy_loss.loss_mode": "gspo"})
    assert (changed.policy_loss.loss_mode, actor.policy_loss.loss_mode) == ("gspo", "vanilla")
    with pytest.raises(AttributeError):
        with_settings(actor, {"policy_loss.lose_mode": "gspo"})


@pytest.mark.parametrize(
    ("method", "updates"),
    # 8 prompts a step: prompts per mini-batch are 8 / updates, rounded up
    [("dapo", 8), ("grpo_on_policy", 8), ("opefo", 8), ("rloo", 8), ("opefo_grpo", 1), ("loop", 3)],
)
def test_updates_per_step(config_of, method, updates):
    actor = config_of(method).actor_rollout_ref.actor
    assert actor.ppo_mini_batch_size == updates
    assert actor.ppo_epochs == (2 if method == "loop" else 1)
