"""Rollouts of several turns: masks and log-probabilities token by token, limits, failures, early stop."""

import asyncio

import hydra
import pytest
import torch
from omegaconf import OmegaConf
from verl.experimental.agent_loop.agent_loop import DictConfigWrap
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.workers.rollout.replica import TokenOutput

from entrobench.algorithms.health import environment_rates
from entrobench.data.smoke_shell import ask
from entrobench.environments.conversation import NO_CODE, NO_OUTPUT
from entrobench.environments.worlds import smoke_shell
from entrobench.models.pretraining import Pretraining
from entrobench.models.tiny import build_model
from entrobench.models.tiny_agent import CONTEXT_LENGTH, PHRASES
from entrobench.models.tokenizer import build_tokenizer
from entrobench.training import agent_loop
from entrobench.training.agent_loop import OUTCOME, EnvironmentAgentLoop
from entrobench.training.early_stop import EarlyStop, forget_stop, is_stopped, stop_rollouts
from entrobench.training.run import AGENT_LOOPS

TASK = "medium/3"
STATE = smoke_shell.State(TASK)
PAID = f"pay({STATE.number}, {STATE.amount})\nfinish()"


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(PHRASES, CONTEXT_LENGTH)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    return build_model(tokenizer, Pretraining(), CONTEXT_LENGTH).eval()


class Scripted:
    """An inference server that writes what it is told to, with the model's own log-probabilities."""

    def __init__(self, texts, tokenizer, model, hook=None):
        self.texts, self.tokenizer, self.model, self.hook = list(texts), tokenizer, model, hook
        self.asked = []

    @torch.no_grad()
    async def generate(self, request_id, *, prompt_ids, sampling_params):
        self.asked.append((list(prompt_ids), sampling_params["max_tokens"]))
        if self.hook is not None:
            self.hook(len(self.asked))
        ids = self.tokenizer(self.texts.pop(0), add_special_tokens=False)["input_ids"]
        ids = ids[: sampling_params["max_tokens"]]
        logits = self.model(torch.tensor([[*prompt_ids, *ids]])).logits[0, len(prompt_ids) - 1 : -1]
        logp = logits.log_softmax(-1).gather(-1, torch.tensor(ids)[:, None])[:, 0]
        steps = {"min_global_steps": 7, "max_global_steps": 7 + len(self.asked)}
        return TokenOutput(token_ids=ids, log_probs=logp.tolist(), extra_fields=steps)


@pytest.fixture
def roll_out(tokenizer, model, tmp_path, sandbox):
    """A function: the texts that the model writes -> (output, server)."""

    def run(texts, hook=None, task=TASK, **limits):
        environment = {"name": "smoke_shell", "turns": 6, "turn_tokens": 24, "observation_tokens": 16}
        rollout = {"prompt_length": 64, "response_length": 144, "max_model_len": 192}
        config = OmegaConf.create(
            {
                "actor_rollout_ref": {"rollout": rollout | {k: v for k, v in limits.items() if k in rollout}},
                "data": {},
                "entrobench": {
                    "control_dir": str(tmp_path),
                    "environment": environment
                    | {"processes": 4}
                    | {k: v for k, v in limits.items() if k in environment},
                },
            }
        )
        server = Scripted(texts, tokenizer, model, hook)

        async def once():
            loop = EnvironmentAgentLoop(
                trainer_config=DictConfigWrap(config),
                server_manager=server,
                tokenizer=tokenizer,
                processor=None,
                dataset_cls=RLHFDataset,
                data_config=DictConfigWrap(config.data),
                hf_model_type="qwen2",
            )
            try:
                return await loop.run(
                    {"temperature": 1.0},
                    raw_prompt=ask(STATE.instruction()),
                    extra_info={"task": task},
                    global_steps=7,
                )
            finally:
                loop._pool.close()
                agent_loop._pool.cache_clear()

        return asyncio.run(once()), server

    return run


def turn(code, word="Exactly.\n"):
    return f"{word}```python\n{code}\n```<|im_end|>"


def test_log_probs_stand_at_their_tokens_over_all_turns(roll_out, tokenizer, model):
    """Each is the model's own of the whole conversation, recomputed in one forward pass."""
    written = [turn(f'find("{STATE.name}")'), turn(f"owed({STATE.number})"), turn(PAID)]
    output, server = roll_out(written)
    tokens = output.prompt_ids + output.response_ids
    assert len(output.response_ids) == len(output.response_mask) == len(output.response_logprobs)
    with torch.no_grad():
        logp = model(torch.tensor([tokens])).logits[0].log_softmax(-1)
    start = len(output.prompt_ids)
    for place, (token, is_ours, found) in enumerate(
        zip(output.response_ids, output.response_mask, output.response_logprobs, strict=True)
    ):
        expected = logp[start + place - 1, token].item() if is_ours else 0.0
        assert found == pytest.approx(expected, abs=1e-5)
    pairs = list(zip(output.response_ids, output.response_mask, strict=True))
    assert tokenizer.decode([token for token, is_ours in pairs if is_ours]) == "".join(written)
    seen = [token for token, is_ours in pairs if not is_ours]
    between = "\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(seen) == between.format(STATE.number) + between.format(STATE.amount)
    assert [prompt for prompt, _ in server.asked][1:] == [
        tokens[: len(prompt)] for prompt, _ in server.asked[1:]
    ], "what was asked is what is trained on"
    assert output.reward_score == 1.0
    assert output.extra_fields["reward_extra_info"] == {"acc": 1.0}
    outcome = output.extra_fields[OUTCOME]
    assert (outcome["ending"], outcome["turns"]) == ("completed", 3)
    assert (outcome["passed"], outcome["total"]) == (3, 3)
    assert output.num_turns == 7
    steps = [output.extra_fields[key] for key in ("min_global_steps", "max_global_steps")]
    assert steps == [7, 10], "the oldest and the newest weights that wrote it"


def test_part_of_the_goals_is_part_of_the_reward(roll_out):
    output, _ = roll_out([turn(f"pay({STATE.number}, {STATE.amount % 9 + 1})\nfinish()")])
    assert output.reward_score == pytest.approx(2 / 3)
    assert output.extra_fields["reward_extra_info"] == {"acc": 0.0}


@pytest.mark.parametrize(
    ("texts", "limits", "ending", "turns"),
    [
        ([turn("1")] * 3, {"turns": 3}, "turns", 3),
        (["no code<|im_end|>"] * 2, {"turns": 2}, "turns", 2),
        (["Exactly.\n```python\n" + "1 + " * 30], {"turn_tokens": 24}, "cut", 1),
        ([turn("'ab' * 8")] * 9, {"response_length": 40}, "context", 2),
        ([turn("'ab' * 8")] * 9, {"max_model_len": 70}, "context", 2),
    ],
)
def test_every_limit_ends_a_trajectory_without_reward(roll_out, tokenizer, texts, limits, ending, turns):
    output, server = roll_out(texts, **limits)
    outcome = output.extra_fields[OUTCOME]
    assert (outcome["ending"], outcome["turns"]) == (ending, turns)
    assert output.reward_score == 0.0
    assert len(output.response_ids) <= limits.get("response_length", 144)
    assert all(most <= limits.get("turn_tokens", 24) for _, most in server.asked)
    assert output.response_mask[-1] == 1, "the last tokens are the model's"
    if "no code" in texts[0]:
        assert NO_CODE in tokenizer.decode(output.response_ids)


def test_a_failing_environment_is_a_trajectory_without_reward_that_says_why(roll_out):
    output, _ = roll_out([turn("1"), turn("import os\nos._exit(1)")], turn_tokens=60)
    outcome = output.extra_fields[OUTCOME]
    assert (outcome["ending"], outcome["failure"]) == ("failed", "its process ended during execute")
    assert output.reward_score == 0.0
    assert sum(output.response_mask) > 0
    output, server = roll_out([], task="nonsense")
    assert output.extra_fields[OUTCOME]["failure"].startswith("reset: ValueError: no task 'nonsense'")
    assert server.asked == [], "nothing is generated without an environment"
    assert (len(output.response_ids), output.response_mask) == (1, [0]), "no token that would be learned from"


def test_what_nobody_waits_for_is_left_out(roll_out, tmp_path):
    def stop(turns):
        if turns == 2:
            stop_rollouts(tmp_path, 7)

    output, server = roll_out([turn("1")] * 6, stop)
    assert output == []
    assert len(server.asked) == 2
    output, server = roll_out([])
    assert (output, server.asked) == ([], []), "nor is it begun"
    forget_stop(tmp_path)
    output, _ = roll_out([turn(PAID)])
    assert output.reward_score == 1.0


def test_an_empty_observation_is_no_empty_message(roll_out, tokenizer):
    output, _ = roll_out([turn(f"pay({STATE.number}, {STATE.amount})"), turn("finish()")])
    assert NO_OUTPUT in tokenizer.decode(output.response_ids)
    assert output.reward_score == 1.0


def test_a_step_goes_on_with_four_of_six_each_and_nine_tenths_of_all(tmp_path):
    rule = EarlyStop(4, 0.9)

    def keys(*of_groups):
        names = [f"{group:012d}" for group in range(len(of_groups))]
        return names + [
            f"{name}_{n}_0" for name, number in zip(names, of_groups, strict=True) for n in range(number)
        ]

    assert not rule.is_enough([], 6)
    assert not rule.is_enough(keys(6, 6, 6, 3), 6), "a group has three"
    assert rule.is_enough(keys(6, 6, 6, 4), 6), "22 of 24"
    assert not rule.is_enough(keys(6, 6, 5, 4), 6), "21 of 24"
    assert not is_stopped(tmp_path, 1)
    stop_rollouts(tmp_path, 3)
    assert [is_stopped(tmp_path, step) for step in (2, 3, 4)] == [True, True, False]
    (tmp_path / "rollouts.stopped").write_text("")
    assert not is_stopped(tmp_path, 3), "a file that is being written"


def test_verl_finds_the_agent_loop_where_runs_name_it():
    (entry,) = OmegaConf.load(AGENT_LOOPS)
    assert entry.name == "environment"
    assert hydra.utils.get_class(entry["_target_"]) is EnvironmentAgentLoop


def test_rates_of_a_step():
    outcomes = [
        {"ending": "completed", "turns": 2, "seconds": 1.0, "generate_seconds": 3.0},
        {"ending": "failed", "turns": 1, "seconds": 0.0, "generate_seconds": 4.0},
    ]
    assert environment_rates(outcomes) == {
        "environment/completed": 0.5,
        "environment/turns": 0.0,
        "environment/cut": 0.0,
        "environment/context": 0.0,
        "environment/failed": 0.5,
        "environment/turn_count": 1.5,
        "environment/seconds_share": 0.125,
    }
