"""Which prompts a step generates and trains on: DAPO's loop, in data order, also after a resume."""

import copy
import functools
import random

import pytest
import torch
from support import make_model, make_tokenizer, make_training_set
from verl.trainer.ppo.v1 import replay_buffer

from entrobench.cells import resolve
from entrobench.configs import Configs
from entrobench.errors import TrainingFailed
from entrobench.paths import repository_root
from entrobench.training.run import run_overrides
from entrobench.training.sampling import SURPLUS_KEY, DataOrderReplayBuffer, prompt_name
from entrobench.training.trainer import EntropyTrainer
from entrobench.training.verl_config import compose_verl_config

pytestmark = pytest.mark.slow

GROUP = 3


class Queue:
    """What a replay buffer sees of TransferQueue. Prompts finish, and are listed, in an order of their own.

    rewards: place of a prompt -> rewards of its group.
    """

    def __init__(self, rewards, seed):
        self.rewards = rewards
        self.random = random.Random(seed)
        self.items = {}
        self.generated = 0

    def generate(self, number):
        for place in range(self.generated, self.generated + number):
            self.items[prompt_name(place)] = {"is_prompt": True, "status": "pending", "global_steps": 1}
        self.generated += number

    def _finish_some(self):
        unfinished = [key for key, tag in self.items.items() if tag.get("status") in ("pending", "running")]
        for key in self.random.sample(unfinished, (len(unfinished) + 1) // 2):
            self.items[key]["status"] = "finished"
            for session in self.random.sample(range(GROUP), GROUP):
                self.items[f"{key}_{session}_0"] = {"seq_len": 5}

    def kv_list(self):
        self._finish_some()
        keys = self.random.sample(list(self.items), len(self.items))
        return {"train": {key: dict(self.items[key]) for key in keys}}

    def kv_batch_get(self, keys, partition_id, select_fields):
        assert select_fields == ["extra_fields"]
        groups = [(int(key.split("_")[0]), int(key.split("_")[1])) for key in keys]
        accs = [self.rewards(place)[session] for place, session in groups]
        return {"extra_fields": [{"reward_extra_info": {"acc": acc}} for acc in accs]}

    def kv_clear(self, partition_id, keys):
        for key in keys:
            self.items.pop(key, None)


def buffer_of(queue, monkeypatch, metric="acc", generation_batch=8):
    monkeypatch.setattr(replay_buffer, "tq", queue)
    buffer = DataOrderReplayBuffer("sync", {}, None, "drop", {}, poll_interval=0.0, refill_fn=queue.generate)
    buffer.filter_groups_metric, buffer.gen_batch_size = metric, generation_batch
    return buffer


def places(batch):
    return [int(key.split("_")[0]) for key in batch.keys[::GROUP]]


def dapos_loop(rewards, generation_batch, train_batch, steps):
    """Places of the prompts of each step, and the prompts generated: the loop as DAPO's paper gives it."""
    chosen, generated = [], 0
    for _ in range(steps):
        buffer = []
        while len(buffer) < train_batch:
            new = range(generated, generated + generation_batch)
            buffer += [place for place in new if len(set(rewards(place))) > 1]
            generated += generation_batch
        chosen.append(buffer[:train_batch])
    return chosen, generated


@pytest.mark.parametrize("tied_share", [0.1, 0.6])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_step_trains_on_what_dapos_loop_chooses_whatever_finishes_first(monkeypatch, seed, tied_share):
    tied = random.Random(7)
    table = [[1.0] * GROUP if tied.random() < tied_share else [1.0, 0.0, 0.0] for _ in range(1000)]
    queue = Queue(table.__getitem__, seed)
    buffer = buffer_of(queue, monkeypatch)
    chosen = []
    for step in range(1, 6):
        before = queue.generated
        queue.generate(8)
        batch, metrics = buffer.sample(step, "train", 4)
        chosen.append(places(batch))
        names = [f"{prompt_name(place)}_{session}_0" for place in chosen[-1] for session in range(GROUP)]
        assert batch.keys == names, "rows by prompt, then by response"
        tied_groups = metrics.get("training/filter_groups/evicted_samples", 0)
        assert 4 + tied_groups + metrics[SURPLUS_KEY] == queue.generated - before
        queue.kv_clear("train", batch.keys)
        assert queue.items == {}, "nothing is carried over to the next step"
    expected, generated = dapos_loop(table.__getitem__, 8, 4, 5)
    assert chosen == expected
    assert queue.generated == generated
    assert (generated > 5 * 8) == (tied_share > 0.5), "many tied groups need more than one batch a step"


def test_without_dynamic_sampling_every_group_is_trained_on_in_data_order(monkeypatch):
    queue = Queue(lambda place: [1.0] * GROUP, seed=0)
    buffer = buffer_of(queue, monkeypatch, metric=None, generation_batch=4)
    queue.generate(4)
    batch, _ = buffer.sample(1, "train", 4)
    assert places(batch) == [0, 1, 2, 3]
    assert queue.generated == 4


def test_a_limit_of_the_trainer_ends_the_wait_for_mixed_groups(monkeypatch):
    queue = Queue(lambda place: [0.0] * GROUP, seed=0)
    buffer = buffer_of(queue, monkeypatch)

    def refuse(number):
        raise TrainingFailed(f"not {number} more")

    buffer.refill_fn = refuse
    queue.generate(8)
    with pytest.raises(TrainingFailed, match="not 8 more"):
        buffer.sample(1, "train", 4)


def test_a_step_without_any_response_is_an_error(monkeypatch):
    queue = Queue(lambda place: [], seed=0)
    buffer = buffer_of(queue, monkeypatch, metric=None, generation_batch=2)
    queue.items = {
        prompt_name(place): {"is_prompt": True, "status": "failure", "global_steps": 1} for place in range(2)
    }
    with pytest.raises(TrainingFailed, match="every rollout failed"):
        buffer.sample(1, "train", 2)


@pytest.fixture(scope="module")
def trainer_of(tmp_path_factory):
    """(method, workers) -> a trainer with a run's data set and loader of 20 rows, 3 prompts a step, and
    nothing else.
    """
    folder = tmp_path_factory.mktemp("data")
    make_model(folder / "model")
    make_training_set(folder / "train.parquet", rows=20)

    @functools.cache
    def config_of(method, workers):
        cell = resolve(
            f"papo/7b-math/{method}/seed0", "smoke", Configs(repository_root() / "configs"), folder
        )
        cell["model"]["path"] = str(folder / "model")
        cell["dataset"]["train_file"] = str(folder / "train.parquet")
        cell["verl"] |= {"data.train_batch_size": 3, "data.dataloader_num_workers": workers}
        return compose_verl_config(run_overrides(cell, folder))

    def make(method, workers=0):
        config = copy.deepcopy(config_of(method, workers))
        trainer = EntropyTrainer.__new__(EntropyTrainer)
        trainer.config, trainer.trainer_mode, trainer.parameter_sync_step = config, "sync", 1
        trainer.tokenizer, trainer.processor, trainer.global_steps = make_tokenizer(), None, 1
        trainer._init_dataloader()
        return trainer

    return make


def prompts_of_steps(trainer, batches_of_steps):
    """[(uid, row of the data), ...] of each step, where a step needs that many generation batches."""
    steps = []
    for number in batches_of_steps:
        batches = [trainer._next_train_batch() for _ in range(number)]
        steps.append([pair for batch in batches for pair in zip(batch["uid"], batch["index"], strict=True)])
    return steps


# 20 rows, generation batches of 6: three a pass, so that these steps go through four passes
BATCHES = [1, 2, 1, 1, 3, 1, 2]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_goes_on_with_the_prompts_of_an_uninterrupted_one(trainer_of, tmp_path, workers):
    trainer = trainer_of("dapo", workers)
    whole = []
    for step, number in enumerate(BATCHES):
        whole += prompts_of_steps(trainer, [number])
        torch.save(trainer.train_dataloader.state_dict(), tmp_path / f"{step}.pt")
    assert prompts_of_steps(trainer_of("dapo", workers), BATCHES) == whole, "the same seed, the same prompts"
    for step in range(len(BATCHES) - 1):
        resumed = trainer_of("dapo", workers)
        state = torch.load(tmp_path / f"{step}.pt", weights_only=False)
        resumed.train_dataloader.load_state_dict(state)
        assert prompts_of_steps(resumed, BATCHES[step + 1 :]) == whole[step + 1 :], f"stopped after {step}"
        assert resumed.train_dataloader.passes() == 3 + 12 / 20


def test_a_pass_has_whole_generation_batches_only(trainer_of):
    trainer = trainer_of("dapo")
    rows = [row for step in prompts_of_steps(trainer, [3, 3]) for _, row in step]
    first, second = rows[:18], rows[18:]
    assert len(set(first)) == len(set(second)) == 18, "no prompt twice in a pass"
    assert first != second
    assert trainer.train_dataloader.passes() == pytest.approx((20 + 18) / 20)
    uids = [uid for step in prompts_of_steps(trainer_of("dapo"), [3, 1]) for uid, _ in step]
    assert uids == sorted(uids)
    assert uids[17:19] == [prompt_name(17), prompt_name(20)], "two prompts of the first pass were left out"


def test_a_step_without_dynamic_sampling_generates_its_training_batch(trainer_of):
    steps = prompts_of_steps(trainer_of("grpo"), [1, 1])
    assert [len(step) for step in steps] == [3, 3]


def test_verl_builds_this_buffer(trainer_of):
    trainer = trainer_of("dapo")
    buffer = trainer._build_replay_buffer()
    assert isinstance(buffer, DataOrderReplayBuffer)
    assert buffer.refill_fn == trainer._add_prompts_to_generate
