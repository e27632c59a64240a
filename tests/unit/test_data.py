"""The smoke task, the prompt of the real training set, and the format of training files."""

import pandas as pd
import pytest

from entrobench.cells import training_prompt
from entrobench.configs import Configs
from entrobench.data import smoke
from entrobench.data.pins import seeded_slice
from entrobench.data.schema import read_problems, read_verl_parquet
from entrobench.data.training_sets import prepare_training_set
from entrobench.errors import CorruptFile
from entrobench.files import read_json, sha256_file
from entrobench.paths import repository_root

CONFIGS = Configs(repository_root() / "configs")


# -- smoke ---------------------------------------------------------------------------------------------------


def test_smoke_task_is_disjoint_and_its_answers_are_right(tmp_path):
    smoke.write_smoke_training_set(tmp_path / "train.parquet", seed=0)
    rows = read_verl_parquet(tmp_path / "train.parquet")
    assert len(rows) == smoke.TRAIN_ROWS
    manifest = read_json(tmp_path / "manifest.json")
    assert (manifest["rows_out"], manifest["sha256"]) == (len(rows), sha256_file(tmp_path / "train.parquet"))
    training = {row.prompt[-1].content.removesuffix(smoke.INSTRUCTION) for row in rows}
    seen = set()
    for name in smoke.BENCHMARKS:
        smoke.write_benchmark(tmp_path / f"{name}.jsonl", name, seed=0)
        problems = read_problems(tmp_path / f"{name}.jsonl")
        texts = {problem.problem for problem in problems}
        assert len(texts) == len(problems) == smoke.PROBLEMS_PER_BENCHMARK
        assert not texts & (training | seen)
        seen |= texts
        for problem in problems:
            assert int(problem.gold) == arithmetic(problem.problem)


def arithmetic(text):
    """The answer, read from the text without the generator's help."""
    words = text.replace("Add ", "+ ").replace("Take away ", "- ")
    for noise in ("What is left?", "What is ", "Start with ", "?", "."):
        words = words.replace(noise, " ")
    first, *rest = words.split()
    pairs = zip(rest[::2], rest[1::2], strict=True)
    return int(first) + sum(int(number) if sign == "+" else -int(number) for sign, number in pairs)


def test_smoke_calculations_are_disjoint_too_so_that_a_worded_problem_is_new():
    splits = smoke.smoke_splits(0)
    everything = [calculation for split in splits.values() for calculation in split]
    assert len(everything) == len(set(everything))


def test_smoke_task_depends_on_its_seed_only():
    assert smoke.training_rows(0) == smoke.training_rows(0)
    assert smoke.training_rows(0) != smoke.training_rows(1)


# -- real files ----------------------------------------------------------------------------------------------


def test_the_real_chat_template_renders_the_papers_prompt_for_every_real_problem(real_data, tmp_path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(real_data / "tokenizer_qwen2_5")
    assert len(tokenizer) == 151_665
    prompt = training_prompt("papo", "dapo_math_17k", CONFIGS)
    prepare_training_set(CONFIGS.dataset("dapo_math_17k"), tmp_path / "train.parquet", prompt)
    rows = read_verl_parquet(tmp_path / "train.parquet")
    for row in rows:
        messages = [message.model_dump() for message in row.prompt]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        problem = row.prompt[1].content.removesuffix(smoke.INSTRUCTION)
        # App. B.7, with the box written without a space
        assert text == (
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
            f"<|im_start|>user\n{problem}\n"
            "Please reason step by step, and put your final answer within \\boxed{}.<|im_end|>\n"
            "<|im_start|>assistant\n"
        )
    longest = max(
        len(ids)
        for ids in tokenizer([row.prompt[1].content for row in rows], add_special_tokens=False)["input_ids"]
    )
    assert longest < 2048, "max_prompt_length of the paper's cells"


# -- bad input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "column"),
    [
        (lambda frame: frame.drop(columns="reward_model"), "reward_model"),
        (
            lambda frame: frame.assign(reward_model=[{"style": "rule", "ground_truth": ""}] * len(frame)),
            "ground_truth",
        ),
        (lambda frame: frame.assign(prompt=[[{"role": "robot", "content": "x"}]] * len(frame)), "role"),
    ],
)
def test_a_training_file_with_another_schema_is_named(tmp_path, change, column):
    path = tmp_path / "train.parquet"
    smoke.write_smoke_training_set(path, seed=0)
    change(pd.read_parquet(path)).to_parquet(path)
    with pytest.raises(CorruptFile, match=rf"train\.parquet.*{column}"):
        read_verl_parquet(path)


def test_a_truncated_parquet_is_named(tmp_path):
    path = tmp_path / "train.parquet"
    smoke.write_smoke_training_set(path, seed=0)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CorruptFile, match=r"train\.parquet cannot be read as parquet"):
        read_verl_parquet(path)


def test_a_slice_keeps_the_order_and_depends_on_the_seed():
    assert seeded_slice(range(100), 5, seed=0) == sorted(seeded_slice(range(100), 5, seed=0))
    assert seeded_slice(range(100), 5, seed=0) != seeded_slice(range(100), 5, seed=1)
    assert seeded_slice([1, 2], None, seed=0) == [1, 2]
