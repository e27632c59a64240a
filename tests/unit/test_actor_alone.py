"""What an update of verl's actor computes does not depend on how: packed or padded, in micro-batches of any
size, checkpointed, by two ranks that share the rows, or by two that share each sequence.
"""

import json
import multiprocessing
import traceback

import pytest
import torch
from actor_update import ACTOR, LENGTHS, MODEL, actor_config, make_rows, one_step
from support import make_model
from transformers import Qwen2ForCausalLM

from entrobench.training.alone import actor_alone, actor_batch, free_port, parameters_of

pytestmark = pytest.mark.slow

PADDED = {MODEL + "use_remove_padding": False, MODEL + "override_config.attn_implementation": "sdpa"}
EXPORT_AT_ONE = {MODEL + "override_config.entrobench_export_steps": [1]}


def on_rank(step, rank, ranks, config, port, folder, *arguments):
    """What a process of `launch` runs: its answer, or its error, in a file."""
    try:
        answer = step(rank, ranks, config, port, folder, *arguments)
        torch.distributed.destroy_process_group()
    except Exception:  # noqa: BLE001 - the parent raises it
        answer = {"error": traceback.format_exc()}
    torch.save(answer, folder / f"{rank}.pt")


def update_on_rank(rank, ranks, config, port, _, shares_sequences):
    return one_step(config, rank, ranks, "127.0.0.1", port, shares_sequences)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    make_model(folder, heads=4, key_value_heads=1)  # fewer heads of keys than ranks that share a sequence
    return folder


@pytest.fixture(scope="module")
def processes():
    """One import of verl for all ranks of all tests, with what an update of it imports late."""
    context = multiprocessing.get_context("forkserver")
    modules = ["entrobench.training.alone", "entrobench.training.engine", "entrobench.training.late_imports"]
    context.set_forkserver_preload(modules)
    return context


@pytest.fixture(scope="module")
def launch(model, processes, tmp_path_factory):
    """What ranks run, overrides, number of ranks, its other arguments -> each rank's answer, their folder."""

    def run(step, overrides, ranks, *arguments):
        folder = tmp_path_factory.mktemp("ranks")
        shared = (ranks, actor_config(model, overrides, ranks), free_port(), folder, *arguments)
        started = [
            processes.Process(target=on_rank, args=(step, rank, *shared), daemon=True)
            for rank in range(ranks)
        ]
        for process in started:
            process.start()
        for process in started:
            process.join(timeout=240)
        answers = [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(ranks)]
        for answer in answers:
            assert "error" not in answer, answer["error"]
        return answers, folder

    return run


@pytest.fixture(scope="module")
def update(launch):
    """overrides, ranks, whether they share sequences -> each rank's answer."""

    def run(overrides, ranks=1, shares_sequences=False):
        return launch(update_on_rank, overrides, ranks, shares_sequences)[0]

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


LORA = {
    MODEL + "lora_rank": 4,
    MODEL + "lora_alpha": 8,
    MODEL + "target_modules": "all-linear",
    "actor_rollout_ref.rollout.load_format": "safetensors",
}
FP16 = {ACTOR + "fsdp_config.mixed_precision.param_dtype": "fp16"}
# With moments, so that a resumed update needs them
ADAM = {ACTOR + "optim.optimizer": "AdamW", ACTOR + "optim.lr": 1e-3}


def resume_on_rank(rank, ranks, config, port, folder):
    """Two updates with a checkpoint between them, and the second one once more from that checkpoint."""
    torch.set_num_threads(1)
    rows = make_rows()[rank::ranks]
    for row in rows:
        row["old_log_probs"] = [-5.0] * len(row["response"])
    first = actor_alone(config, rank, ranks, "127.0.0.1", port)
    scaler = first.actor.engine.scaler
    if scaler is not None:
        scaler.set_growth_interval(1)
    first.update_actor(actor_batch(rows, config))
    first.save_checkpoint(str(folder / "actor"), global_step=1)
    at_checkpoint = parameters_of(first)
    first.update_actor(actor_batch(rows, config))
    first.save_checkpoint(str(folder / "next"), global_step=2)
    second = actor_alone(config, rank, ranks, "127.0.0.1", port)
    second.load_checkpoint(str(folder / "actor"))
    loaded = parameters_of(second)
    second.update_actor(actor_batch(rows, config))
    return {
        "at checkpoint": at_checkpoint,
        "loaded": loaded,
        "after": parameters_of(first),
        "after, resumed": parameters_of(second),
        "scales": scaler and [scaler.get_scale(), second.actor.engine.scaler.get_scale()],
    }


@pytest.mark.parametrize(
    ("overrides", "ranks"), [({}, 1), ({}, 2), (FP16, 2), (LORA, 1)], ids=["one", "two", "FP16", "LoRA"]
)
def test_a_resumed_update_is_that_of_an_uninterrupted_run(launch, overrides, ranks):
    answers, folder = launch(resume_on_rank, ADAM | EXPORT_AT_ONE | overrides, ranks)
    for answer in answers:
        for name, parameter in answer["at checkpoint"].items():
            assert torch.equal(answer["loaded"][name], parameter), name
            assert torch.equal(answer["after, resumed"][name], answer["after"][name]), name
        if overrides is FP16:
            assert answer["scales"] == [2.0**18, 2.0**18], "grown at both updates, and after the checkpoint"
    moved = [
        name for name, p in answers[0]["after"].items() if not torch.equal(p, answers[0]["loaded"][name])
    ]
    assert moved
    exported = folder / "actor/huggingface"
    assert list((folder / "next").glob("model_world_size_*.pt"))
    assert not list((folder / "next/huggingface").glob("*.safetensors")), "no model is asked for at step 2"
    assert "attn_implementation" not in json.loads((exported / "config.json").read_text())
    if overrides is LORA:
        assert all("lora_" in name for name in moved)
        (shard,) = (folder / "actor").glob("model_world_size_*.pt")
        assert shard.stat().st_size < 200_000, "the adapter, without its base"
    else:
        for name, parameter in (
            Qwen2ForCausalLM.from_pretrained(exported, dtype=torch.float32).state_dict().items()
        ):
            assert torch.equal(parameter, answers[0]["at checkpoint"][name]), name
