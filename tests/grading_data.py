"""Golds and model outputs of the folder of real data, as the tests and benchmarks of grading read them."""

import gzip
import json

import pandas as pd

from entrobench.paths import real_data
from entrobench.rewards.math_answers import extract_boxed

MATH_SETS = ("aime24", "aime25", "amc23", "math500", "minerva", "olympiadbench")
_FILES = {
    "aime24": "aime24/qwen25math_test.jsonl",
    "aime25": "aime25/AIME25.jsonl",
    "amc23": "amc23/qwen25math_test.jsonl",
    "math500": "math500/test.jsonl",
    "minerva": "minerva_math/qwen25math_test.jsonl",
    "olympiadbench": "olympiadbench/qwen25math_test.jsonl",
}
_RULE = ("is_multiple_answer", "answer_type", "unit", "error")


def golds(name):
    """Golds of a benchmark as a grader takes them."""
    with real_data(_FILES[name]).open(encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    if name == "olympiadbench":
        return [{"answer": row["final_answer"][0]} | {key: row[key] for key in _RULE} for row in rows]
    boxed = name in ("aime25", "minerva")
    return [extract_boxed(row["solution"]) if boxed else row["answer"] for row in rows]


def training_golds():
    """Golds of DAPO-Math-17K, one per index."""
    frame = pd.read_parquet(real_data("dapo_math_17k/dapo-math-17k.dedup-by-index.parquet"))
    return [row["ground_truth"] for row in frame["reward_model"]]


def labelled_outputs(gold="gt"):
    """800 (completion, gold) pairs, and Qwen's labels."""
    rows = read_gzip(real_data("outputs/math_qwen25math_cot100/math_cot_100.slim.jsonl.gz"))
    pairs = [(completion, row[gold]) for row in rows for completion in row["response"]]
    return pairs, [bool(label) for row in rows for label in row["score"]]


IFEVAL_OUTPUTS = "outputs/ifeval_gpt4/eval_results_{level}.jsonl.gz"
HUMANEVAL_OUTPUTS = "outputs/humaneval_gpt4_reflexion/simple_gpt-4_pass_at_1.jsonl.gz"
CRUX_OUTPUTS = "outputs/zeroeval_crux"


def read_gzip(path):
    """The rows of a gzipped JSONL file."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def instruction_outputs():
    """Responses of GPT-4 with their golds and the published verdicts: (response, gold, strict, loose)."""
    levels = ("strict", "loose")
    strict, loose = (read_gzip(real_data(IFEVAL_OUTPUTS.format(level=level))) for level in levels)
    data = real_data("ifeval/input_data.jsonl").read_text(encoding="utf-8").splitlines()
    golds = {row["prompt"].strip(): row for row in map(json.loads, data)}
    keys = ("prompt", "instruction_id_list", "kwargs")
    return [
        (one["response"], {key: golds[one["prompt"].strip()][key] for key in keys}, one, other)
        for one, other in zip(strict, loose, strict=True)
    ]


def program_outputs():
    """Solutions of GPT-4 to HumanEval: rows with `solution`, the problem, and `is_solved` as published."""
    return read_gzip(real_data(HUMANEVAL_OUTPUTS))


def program_gold(row):
    """The gold of a problem of HumanEval."""
    return {key: row[key] for key in ("prompt", "test", "entry_point")}


def prediction_outputs(model):
    """ZeroEval's outputs of a model: (completion, gold) pairs, and its line of the published summary."""
    folder = real_data(CRUX_OUTPUTS)
    summary = json.loads((folder / "crux.summary.json").read_text(encoding="utf-8"))
    rows = read_gzip(folder / f"{model}.jsonl.gz")
    published = next(row for row in summary if row["Model"] == model)
    return [(row["output"][0], row["answer"]) for row in rows], published


def aime_outputs():
    """320 (completion, gold) pairs in DAPO's form. The labels in the file belong to other answers."""
    path = real_data("outputs/aime_flowrl_grpo/flowrl_correct_grpo_wrong_10_samples.json.gz")
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        rows = json.load(stream)
    return [
        (completion, row["ground_truth"])
        for row in rows
        for key in ("flowrl_responses", "grpo_responses")
        for completion in row[key]
    ]
