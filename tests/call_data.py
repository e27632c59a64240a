"""Golds of BFCL and ACEBench as completions that give them, and BFCL's labelled outputs."""

import ast
import json
import re

from entrobench.configs import Configs
from entrobench.data.benchmarks import load_benchmark
from entrobench.files import read_jsonl
from entrobench.paths import real_data, repository_root

# Category -> name of its labelled file, and on how many of the labels of 2024 the v3 golds of 2025 agree
LABELLED = {
    "simple": ("simple", 394),
    "multiple": ("multiple_function", 197),
    "parallel": ("parallel_function", 200),
    "parallel_multiple": ("parallel_multiple_function", 197),
}


def evaluating_calls(path):
    """Names of the functions that a Python file calls or imports and that run text as code."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    called = {ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)}
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return (called | imported) & {
        "eval",
        "exec",
        "compile",
        "__import__",
        "importlib",
        "os.system",
        "subprocess",
    }


def completion_of(calls):
    """A reply in the asked form."""
    return f"<think>x</think><tool_call>{json.dumps(calls, ensure_ascii=False)}</tool_call>"


def problems(benchmark):
    """Problems of a benchmark of function calls, and their golds as a grader takes them."""
    rows, _ = load_benchmark(Configs(repository_root() / "configs").benchmark(benchmark), download=False)
    golds = [
        {"answer": json.loads(row["gold"])} | {key: row["extra"][key] for key in ("tools", "category")}
        for row in rows
    ]
    return rows, golds


def bfcl_golds(benchmark):
    """(completion, gold) pairs: every parameter with its first value that is not "leave it out"."""
    _, golds = problems(benchmark)
    return [(completion_of(_calls(gold)), gold) for gold in golds]


def acebench_golds(benchmark):
    """(completion, gold) pairs: the first alternative, its calls without the numbers of repeated ones."""
    _, golds = problems(benchmark)
    pairs = []
    for gold in golds:
        first = gold["answer"][0] if isinstance(gold["answer"], list) else gold["answer"]
        calls = [{"name": re.sub(r"_\d+$", "", name), "arguments": values} for name, values in first.items()]
        pairs.append((completion_of(calls), gold))
    return pairs


def labelled_calls(category):
    """(calls, question, gold, label) of the outputs of a model that was shown a_b for a.b."""
    file, _ = LABELLED[category]
    outputs = real_data("outputs/bfcl_NousResearch_Hermes-2-Pro-Llama-3-8B")
    folder = real_data("bfcl_v3")
    results = read_jsonl(outputs / f"gorilla_openfunctions_v1_test_{file}_result.json")
    wrong = {row["id"] - 1 for row in read_jsonl(outputs / f"{file}_score.json")[1:]}
    questions = read_jsonl(folder / "question" / f"BFCL_v3_{category}.json")
    answers = read_jsonl(folder / "possible_answer" / f"BFCL_v3_{category}.json")
    for number, (result, question, answer) in enumerate(zip(results, questions, answers, strict=True)):
        try:
            blocks = re.findall(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", result["result"], re.DOTALL)
            calls = [json.loads(block) for block in blocks]
        except ValueError:
            calls = []
        yield calls, question["function"], answer["ground_truth"], number not in wrong


def _calls(gold):
    calls = []
    for entry in gold["answer"]:
        ((name, parameters),) = entry.items()
        types = next((t["parameters"]["properties"] for t in gold["tools"] if t["name"] == name), {})
        calls.append({"name": name, "arguments": _arguments(parameters, types, gold["category"])})
    return calls


def _arguments(parameters, types, category):
    chosen = {name: [v for v in values if v != ""] for name, values in parameters.items()}
    first = {name: _plain(values[0]) for name, values in chosen.items() if values}
    if category not in _WRITERS:
        return first
    return {name: _WRITERS[category](value, types.get(name, {})) for name, value in first.items()}


def _plain(value):
    """A value of a gold; objects in it have lists of values too, of which some are one value."""
    if isinstance(value, list):
        return [_plain(entry) if isinstance(entry, dict) else entry for entry in value]
    if not isinstance(value, dict):
        return value
    firsts = {key: values[0] if isinstance(values, list) else values for key, values in value.items()}
    return {key: first for key, first in firsts.items() if first != ""}


def java(value, spec):
    """A value as Java writes it, in the string that the leaderboard wants; text is itself."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        puts = " ".join(f"put({json.dumps(key)}, {json.dumps(entry)});" for key, entry in value.items())
        return f"new HashMap<>() {{{{ {puts} }}}}"
    if isinstance(value, list):
        items = spec.get("items", {})
        entries = ", ".join(json.dumps(v) if isinstance(v, str) else java(v, items) for v in value)
        is_array = spec.get("type") == "Array"
        return f"new Object[]{{{entries}}}" if is_array else f"new ArrayList<>(Arrays.asList({entries}))"
    return json.dumps(value) + {"float": "f", "long": "L"}.get(spec.get("type"), "")


def javascript(value, spec):
    """The same for JavaScript."""
    if isinstance(value, str):
        return value
    return f"{value}n" if spec.get("type") == "Bigint" else json.dumps(value)


_WRITERS = {"java": java, "javascript": javascript}
