"""Training sets and benchmarks: what is generated, what is prepared from real files, and what is refused."""

import pandas as pd
import pytest

from entrobench.configs import Configs
from entrobench.data import smoke
from entrobench.data.benchmarks import prepare_benchmark
from entrobench.data.dapo import PREFIX, SUFFIX, prepare_dapo
from entrobench.data.pins import seeded_slice
from entrobench.data.prompts import math_prompt
from entrobench.data.schema import read_problems, read_verl_parquet
from entrobench.errors import CorruptFile, MissingInput, PinMismatch
from entrobench.files import read_json, sha256_file, write_jsonl
from entrobench.paths import repository_root, shared_data

CONFIGS = Configs(repository_root() / "configs")


@pytest.fixture(scope="session")
def real_data():
    """The folder of real data files, or a skip that says so."""
    folder = shared_data()
    if folder is None:
        pytest.skip("the folder of real data is absent (set ENTROBENCH_SHARED_DATA)")
    return folder


def make_source(path, problems):
    """A parquet in the form of DAPO-Math-17K: (text, answer) pairs wrapped in its prompt."""
    frame = pd.DataFrame(
        {
            "data_source": "math_dapo",
            "prompt": [[{"content": PREFIX + text + SUFFIX, "role": "user"}] for text, _ in problems],
            "ability": "MATH",
            "reward_model": [{"ground_truth": gold, "style": "rule"} for _, gold in problems],
            "extra_info": [{"index": f"id-{i}"} for i in range(len(problems))],
        }
    )
    frame.to_parquet(path)
    return {
        "sha256": sha256_file(path),
        "rows": len(problems),
        "unique_prompts": len({t for t, _ in problems}),
    }


# -- smoke ---------------------------------------------------------------------------------------------------


def test_smoke_task_is_disjoint_and_its_answers_are_right(tmp_path):
    smoke.write_training_set(tmp_path / "train.parquet", seed=0)
    rows = read_verl_parquet(tmp_path / "train.parquet")
    assert len(rows) == smoke.TRAIN_ROWS
    training = {row.prompt[-1].content for row in rows}
    seen = set()
    for name in smoke.BENCHMARKS:
        smoke.write_benchmark(tmp_path / f"{name}.jsonl", name, seed=0)
        problems = read_problems(tmp_path / f"{name}.jsonl")
        texts = {problem.prompt[-1].content for problem in problems}
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


def test_the_real_dapo_math_17k(real_data, tmp_path):
    pin = CONFIGS.dataset("dapo_math_17k").source
    manifest = prepare_dapo(real_data / pin["path"], tmp_path / "train.parquet", pin)
    assert (manifest["rows_in"], manifest["rows_out"]) == (17917, 17398)
    assert len(manifest["conflicting_answers"]) == 7
    rows = read_verl_parquet(tmp_path / "train.parquet")
    texts = [row.prompt[1].content for row in rows]
    assert len(set(texts)) == 17398
    assert not any(
        "Remember to put your answer" in text or "step by step. The last line" in text for text in texts
    )
    assert rows[0].prompt[1].content.startswith("In triangle $ABC$, $\\sin \\angle A = \\frac{4}{5}$")
    assert rows[0].reward_model.ground_truth == "34"


def test_the_real_chat_template_renders_the_papers_prompt_for_every_real_problem(real_data, tmp_path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(real_data / "tokenizer_qwen2_5")
    assert len(tokenizer) == 151_665
    pin = CONFIGS.dataset("dapo_math_17k").source
    prepare_dapo(real_data / pin["path"], tmp_path / "train.parquet", pin)
    rows = read_verl_parquet(tmp_path / "train.parquet")
    for row in rows:
        messages = [message.model_dump() for message in row.prompt]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        problem = row.prompt[1].content.removesuffix(math_prompt("")[1]["content"])
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


@pytest.mark.parametrize(("name", "count"), [("math500", 500), ("aime24", 30)])
def test_the_real_benchmarks(real_data, tmp_path, name, count):
    pin = CONFIGS.benchmark(name).source
    prepare_benchmark(name, real_data / pin["path"], tmp_path / "all.jsonl", pin)
    problems = read_problems(tmp_path / "all.jsonl")
    assert len({problem.id for problem in problems}) == count
    if name == "aime24":
        assert "025" in {problem.gold for problem in problems}, (
            "leading zeros are kept; the grader reads them"
        )
    prepare_benchmark(name, real_data / pin["path"], tmp_path / "few.jsonl", pin, limit=3, seed=1)
    assert len(read_problems(tmp_path / "few.jsonl")) == 3


# -- bad input -----------------------------------------------------------------------------------------------


def test_duplicates_are_dropped_and_conflicts_listed(tmp_path):
    pin = make_source(tmp_path / "in.parquet", [("a", "1"), (" b", "2"), ("a", "3"), ("b", "2")])
    manifest = prepare_dapo(tmp_path / "in.parquet", tmp_path / "out" / "train.parquet", pin)
    assert manifest["rows_out"] == 3, "' b' and 'b' are different texts"
    assert manifest["conflicting_answers"] == [{"problem": "a", "answers": ["1", "3"]}]
    rows = read_verl_parquet(tmp_path / "out" / "train.parquet")
    assert [row.reward_model.ground_truth for row in rows] == ["1", "2", "2"]
    assert read_json(tmp_path / "out" / "manifest.json") == manifest


def test_a_file_that_is_not_the_pinned_one_is_refused_and_the_old_result_stays(tmp_path):
    pin = make_source(tmp_path / "in.parquet", [("a", "1")])
    prepare_dapo(tmp_path / "in.parquet", tmp_path / "train.parquet", pin)
    before = (tmp_path / "train.parquet").read_bytes()
    make_source(tmp_path / "in.parquet", [("a", "2")])
    with pytest.raises(PinMismatch, match=r"in\.parquet has sha256"):
        prepare_dapo(tmp_path / "in.parquet", tmp_path / "train.parquet", pin)
    assert (tmp_path / "train.parquet").read_bytes() == before


def test_missing_file_and_other_counts_are_named(tmp_path):
    pin = make_source(tmp_path / "in.parquet", [("a", "1"), ("b", "2")])
    with pytest.raises(PinMismatch, match="expected 9 different problem texts, found 2"):
        prepare_dapo(tmp_path / "in.parquet", tmp_path / "train.parquet", pin | {"unique_prompts": 9})
    with pytest.raises(MissingInput, match="ENTROBENCH_SHARED_DATA"):
        prepare_dapo(tmp_path / "none.parquet", tmp_path / "train.parquet", pin)


def test_a_row_without_dapos_prompt_is_named(tmp_path):
    make_source(tmp_path / "in.parquet", [("a", "1")])
    frame = pd.read_parquet(tmp_path / "in.parquet")
    frame["prompt"] = [[{"content": "What is 1 + 1?", "role": "user"}]]
    frame.to_parquet(tmp_path / "in.parquet")
    pin = {"sha256": sha256_file(tmp_path / "in.parquet"), "rows": 1, "unique_prompts": 1}
    with pytest.raises(CorruptFile, match="row id-0: expected one message with DAPO's prompt"):
        prepare_dapo(tmp_path / "in.parquet", tmp_path / "train.parquet", pin)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"problem": "p", "answer": ""}, "'answer'"),
        ({"problem": "p", "answer": 27.0}, "27.0"),
        ({"answer": "1"}, "problem"),
    ],
)
def test_a_benchmark_row_without_text_is_named(tmp_path, row, message):
    source = tmp_path / "in.jsonl"
    write_jsonl(source, [{"problem": "fine", "answer": "1"}, row])
    with pytest.raises(CorruptFile, match=rf"line 2: .*{message}"):
        prepare_benchmark(
            "math500", source, tmp_path / "out.jsonl", {"sha256": sha256_file(source), "problems": 2}
        )


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
    smoke.write_training_set(path, seed=0)
    change(pd.read_parquet(path)).to_parquet(path)
    with pytest.raises(CorruptFile, match=rf"train\.parquet.*{column}"):
        read_verl_parquet(path)


def test_a_truncated_parquet_is_named(tmp_path):
    path = tmp_path / "train.parquet"
    smoke.write_training_set(path, seed=0)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CorruptFile, match=r"train\.parquet cannot be read as parquet"):
        read_verl_parquet(path)


def test_a_slice_keeps_the_order_and_depends_on_the_seed():
    assert seeded_slice(range(100), 5, seed=0) == sorted(seeded_slice(range(100), 5, seed=0))
    assert seeded_slice(range(100), 5, seed=0) != seeded_slice(range(100), 5, seed=1)
    assert seeded_slice([1, 2], None, seed=0) == [1, 2]
