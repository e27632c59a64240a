"""What an update of verl's actor computes does not depend on how: packed or padded, in micro-batches of any
size, checkpointed, by two ranks that share the rows, or by two that share each sequence.
"""

import multiprocessing
import socket
import traceback
from pathlib import Path

import pytest
import torch
from support import make_model
from transformers import Qwen2ForCausalLM

from entrobench.cells import resolve
from entrobench.configs import Configs
from entrobench.paths import repository_root
from entrobench.training.engine import STAT_FIELDS
from entrobench.training.verl_config import compose_verl_config

pytestmark = pytest.mark.slow

CELL = "papo/7b-math/papo_polarity/seed0"
ACTOR = "actor_rollout_ref.actor."
MODEL = "actor_rollout_ref.model."
PADDED = {MODEL + "use_remove_padding": False, MODEL + "override_config.attn_implementation": "sdpa"}
# Tokens of prompt and response of the rows of one mini-batch
LENGTHS = [(3, 9), (6, 2), (1, 1), (2, 17), (5, 5), (4, 12), (7, 3), (2, 8)]


def make_rows():
    generator = torch.Generator().manual_seed(0)

    def tokens(count):
        return torch.randint(3, 200, (count,), generator=generator).tolist()

    return [
        {
            "prompt": tokens(prompt),
            "response": tokens(response),
            "advantages": torch.randn(response, generator=generator).tolist(),
        }
        for prompt, response in LENGTHS
    ]


def by_row(output, rows):
    """Statistic -> its values at each row's response tokens."""
    ends = output["log_probs"].offsets()[1:].tolist()
    spans = [(end - len(row["response"]) - 1, end - 1) for end, row in zip(ends, rows, strict=True)]
    return {
        name: [output[name].values()[a:b] for a, b in spans] for name in ("log_probs", *STAT_FIELDS.values())
    }


def run_rank(rank, ranks, shares_sequences, config, port, folder):
    """One step: statistics, then an update from old log-probabilities a little lower, so that ratios clip."""
    try:
        from entrobench.training.alone import actor_alone, actor_batch, parameters_of

        torch.set_num_threads(1)
        worker = actor_alone(config, rank, ranks, "127.0.0.1", port)
        rows = make_rows() if shares_sequences else make_rows()[rank::ranks]
        asked = actor_batch([{key: row[key] for key in ("prompt", "response")} for row in rows], config)
        output = worker.compute_log_prob(asked)
        kept = [by_row(output, rows) if output is not None else None]
        if shares_sequences:  # one rank of a sequence answers; the driver sends to all
            torch.distributed.broadcast_object_list(kept, src=0)
        for row, logp in zip(rows, kept[0]["log_probs"], strict=True):
            row["old_log_probs"] = logp - torch.linspace(0, 0.5, len(logp))
        metrics = worker.update_actor(actor_batch(rows, config))
        answer = {
            "ranks a sequence": worker.actor.engine.ulysses_sequence_parallel_size,
            "statistics": kept[0],
            "parameters": parameters_of(worker),
            "metrics": {} if metrics is None else metrics["metrics"],
        }
        torch.distributed.destroy_process_group()
    except Exception:  # noqa: BLE001 - the parent raises it
        answer = {"error": traceback.format_exc()}
    torch.save(answer, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    make_model(folder, heads=4, key_value_heads=1)  # fewer heads of keys than ranks that share a sequence
    return folder


@pytest.fixture(scope="module")
def processes():
    """One import of verl for all ranks of all tests."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["entrobench.training.alone", "entrobench.training.engine"])
    return context


@pytest.fixture(scope="module")
def update(model, processes, tmp_path_factory):
    """overrides, ranks, whether they share sequences -> each rank's answer."""
    resolved = resolve(CELL, "smoke", Configs(repository_root() / "configs"), Path("results"))

    def run(overrides, ranks=1, shares_sequences=False):
        config = compose_verl_config(
            resolved["verl"]
            | {
                MODEL + "path": str(model),
                ACTOR + "ppo_mini_batch_size": len(LENGTHS),
                "actor_rollout_ref.rollout.n": 1,
                "data.train_batch_size": len(LENGTHS),
                # A step is then the clipped gradient itself
                ACTOR + "optim.optimizer": "SGD",
                ACTOR + "optim.lr": 1.0,
                ACTOR + "optim.weight_decay": 0.0,
                ACTOR + "optim.lr_warmup_steps": 0,
                "trainer.n_gpus_per_node": ranks,
            }
            | overrides
        )
        folder = tmp_path_factory.mktemp("ranks")
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        started = [
            processes.Process(
                target=run_rank, args=(rank, ranks, shares_sequences, config, port, folder), daemon=True
            )
            for rank in range(ranks)
        ]
        for process in started:
            process.start()
        for process in started:
            process.join(timeout=240)
        answers = [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(ranks)]
        for answer in answers:
            assert "error" not in answer, answer["error"]
        return answers

    return run


def micro_batches(rows):
    return {
        ACTOR + "use_dynamic_bsz": False,
        "actor_rollout_ref.rollout.log_prob_use_dynamic_bsz": False,
        ACTOR + "ppo_micro_batch_size_per_gpu": rows,
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu": rows,
    }


def token_budget(tokens):
    return {
        ACTOR + "use_dynamic_bsz": True,
        "actor_rollout_ref.rollout.log_prob_use_dynamic_bsz": True,
        ACTOR + "ppo_max_token_len_per_gpu": tokens,
        "actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu": tokens,
    }


CHECKPOINTED = {MODEL + "enable_gradient_checkpointing": True}
SHARED = {ACTOR + "fsdp_config.ulysses_sequence_parallel_size": 2}
WAYS = {
    "packed": ({}, 1),
    "one row at a time": (micro_batches(1), 1),
    "40 tokens at a time": (token_budget(40), 1),
    "checkpointed": (CHECKPOINTED | token_budget(60), 1),
    "two ranks": (micro_batches(2), 2),
    "two ranks, 40 tokens at a time": (token_budget(40), 2),
    "two ranks a sequence": (SHARED | token_budget(40), 2),
    "two ranks a sequence, checkpointed": (SHARED | CHECKPOINTED | micro_batches(4), 2),
}


@pytest.fixture(scope="module")
def expected(update):
    """By padded rows, all at once, on one rank, for each way to average the loss."""
    answers = {}

    def of(mode):
        if mode not in answers:
            loss = {ACTOR + "loss_agg_mode": mode}
            answers[mode] = update(PADDED | micro_batches(len(LENGTHS)) | loss)[0]
        return answers[mode]

    return of


@pytest.mark.parametrize(
    ("way", "mode"),
    [
        *((way, "token-mean") for way in WAYS),
        ("one row at a time", "seq-mean-token-mean"),
        ("two ranks, 40 tokens at a time", "seq-mean-token-mean"),
        ("two ranks a sequence", "seq-mean-token-mean"),
    ],
)
def test_every_way_to_compute_an_update_makes_the_same(update, expected, way, mode):
    overrides, ranks = WAYS[way]
    shares_sequences = "a sequence" in way
    answers = update(overrides | {ACTOR + "loss_agg_mode": mode}, ranks, shares_sequences)
    wanted = expected(mode)
    for rank, answer in enumerate(answers):
        assert answer["ranks a sequence"] == (ranks if shares_sequences else 1)
        rows = range(len(LENGTHS)) if shares_sequences else range(rank, len(LENGTHS), ranks)
        for name, values in answer["statistics"].items():
            for row, found in zip(rows, values, strict=True):
                assert torch.allclose(found, wanted["statistics"][name][row], rtol=1e-5, atol=1e-6), name
        for name, parameter in answer["parameters"].items():
            assert torch.allclose(parameter, wanted["parameters"][name], rtol=0, atol=2e-6), name
    assert sum(answers[0]["metrics"]["grad_norm"]) == pytest.approx(
        sum(wanted["metrics"]["grad_norm"]), rel=1e-5
    )


def test_the_update_is_not_nothing(expected, model):
    before = Qwen2ForCausalLM.from_pretrained(model).state_dict()
    steps = [(after - before[name]).norm() for name, after in expected("token-mean")["parameters"].items()]
    assert torch.stack(steps).norm() == pytest.approx(1.0, rel=1e-4), "a gradient clipped at norm 1"
