"""Benchmarks as canonical problems: the real files' figures, and files that are refused."""

import gzip
import json
import re

import pandas as pd
import pytest
from real_counts import PROBLEMS, pin_of

from entrobench.cells import benchmark_of
from entrobench.configs import Benchmark, Configs
from entrobench.data.benchmarks import all_boxes, choice_order, gpqa, load_benchmark, prepare_benchmark
from entrobench.data.schema import read_problems
from entrobench.data.sources import fetch_all
from entrobench.data.tool_benchmarks import conversation, with_language
from entrobench.errors import ConfigError, CorruptFile, MissingInput, PinMismatch
from entrobench.files import read_json, read_jsonl, write_jsonl
from entrobench.paths import repository_root, shared_data
from entrobench.rewards.math_answers import canonical_integer

CONFIGS = Configs(repository_root() / "configs")


@pytest.fixture(scope="session")
def real(real_data):
    """name -> all problems of a real benchmark, or a skip that says so."""
    made = {}

    def load(name):
        if name not in made:
            made[name] = load_benchmark(CONFIGS.benchmark(name), download=False)[0]
        return made[name]

    return load


def test_every_benchmark_of_every_paper_has_a_config():
    for paper in CONFIGS.papers():
        for experiment in CONFIGS.protocol(paper).experiments.values():
            for entry in experiment.benchmarks:
                name = benchmark_of(entry, paper, CONFIGS)
                assert CONFIGS.benchmark(name).benchmark == name


@pytest.mark.parametrize(("name", "count"), PROBLEMS.items())
def test_the_real_benchmarks(real, tmp_path, name, count):
    problems = real(name)
    assert len({problem["id"] for problem in problems}) == len(problems) == count
    manifest = prepare_benchmark(CONFIGS.benchmark(name), tmp_path / f"{name}.jsonl", limit=3, seed=1)
    assert (manifest["problems"], manifest["problems_out"]) == (count, 3)
    assert read_json(tmp_path / f"{name}.manifest.json") == manifest
    for problem in read_problems(tmp_path / f"{name}.jsonl"):
        assert problem.benchmark == name


def test_golds_of_the_real_math_benchmarks(real):
    assert "025" in {problem["gold"] for problem in real("aime24")}, "leading zeros stay"
    assert {problem["gold"] for problem in real("amc23")} >= {"27", "-1", "3159"}, "27.0 is 27"
    rules = [problem["rule"] for problem in real("olympiadbench")]
    assert sum(rule["is_multiple_answer"] for rule in rules) == 94
    (tolerant,) = (problem for problem in real("olympiadbench") if problem["rule"]["error"])
    assert (tolerant["id"], tolerant["rule"]["error"]) == ("2592", "1e-1")


@pytest.mark.parametrize(
    ("name", "other", "column"),
    [("aime24", "aime24/qwq_aime24.jsonl", "prompt"), ("aime25", "aime25/qwq_aime25.jsonl", "prompt")],
)
def test_a_second_copy_has_the_same_golds(real, name, other, column):
    rows = read_jsonl(shared_data() / other)
    assert [canonical_integer(problem["gold"]) for problem in real(name)] == [row["answer"] for row in rows]
    assert all(len(row[column]) > 20 for row in rows)


def test_real_bfcl_and_acebench_have_tools_and_answers(real):
    for name in ("bfcl_live", "bfcl_non_live", "acebench_en", "acebench_zh"):
        for problem in real(name):
            gold, tools = json.loads(problem["gold"]), problem["extra"]["tools"]
            names = {tool["name"] for tool in tools}
            called = {call for entry in (gold if isinstance(gold, list) else [gold]) for call in entry}
            assert called, problem["id"]
            assert all("parameters" in tool and "arguments" not in tool for tool in tools)
            # ACEBench numbers the calls of one function
            if not all(call in names or re.sub(r"_\d+$", "", call) in names for call in called):
                assert problem["id"] in ("simple_363", "javascript_41"), (
                    "their golds name what is not offered"
                )
    turns = {tuple(m["role"] for m in p["extra"]["turns"]) for p in real("acebench_en")}
    assert ("user", "assistant", "user") in turns


def test_golds_of_the_real_cruxeval_are_literals(real):
    for problem in real("cruxeval"):
        assert eval_free_literal(problem["gold"])


def eval_free_literal(text):
    import ast

    ast.literal_eval(text)
    return True


# -- generated files -----------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Writes rows to a pinned file and makes the configuration of a benchmark that reads it."""
    monkeypatch.setenv("ENTROBENCH_SHARED_DATA", str(tmp_path))

    def make(adapter, rows, settings=None, counts=None):
        path = tmp_path / "in.jsonl"
        if isinstance(rows, bytes):
            path.write_bytes(rows)
        else:
            write_jsonl(path, rows)
        return Benchmark(
            benchmark="toy",
            title="toy",
            source={"kind": "files", "files": {"problems": pin_of(path)}},
            adapter=adapter,
            settings=settings or {},
            counts=counts or {},
        )

    return make


MATH = {"problem": "p", "answer": "1", "solution": "\\boxed{1}", "id": 0}
OLYMPIAD = {
    "id": 1,
    "question": "q",
    "final_answer": ["1"],
    "is_multiple_answer": False,
    "answer_type": "Numerical",
    "unit": None,
    "error": None,
}
CRUX = {"id": "s", "code": "def f(x): return x", "input": "1", "output": "1"}
IFEVAL = {"key": 1, "prompt": "p", "instruction_id_list": ["a:b"], "kwargs": [{"n": None, "m": 2}]}
MMLU = {
    "question_id": 1,
    "question": "q",
    "options": ["x", "y"],
    "answer": "B",
    "answer_index": 1,
    "category": "c",
}
HUMANEVAL = {"task_id": "t", "prompt": "p", "canonical_solution": "s", "test": "t", "entry_point": "f"}


@pytest.mark.parametrize(
    ("adapter", "settings", "good", "bad", "message"),
    [
        ("math", {}, MATH, {"answer": ""}, "expected text in 'answer', found ''"),
        ("math", {}, MATH, {"answer": 27.0}, r"'answer', found 27\.0"),
        ("math", {}, MATH, {"problem": None}, "'problem', found None"),
        ("math", {"id": "id"}, MATH, {"id": None}, "expected an id in 'id', found None"),
        ("math", {"gold": "number"}, MATH, {"answer": "27"}, "integral number in 'answer', found '27'"),
        ("math", {"gold": "number"}, MATH, {"answer": 0.5}, r"integral number in 'answer', found 0\.5"),
        ("math", {"gold": "boxed"}, MATH, {"solution": r"\boxed{1} \boxed{2}"}, "exactly one .*found 2"),
        ("math", {"gold": "boxed"}, MATH, {"solution": r"\boxed{1"}, "exactly one .*found 0"),
        ("olympiadbench", {}, OLYMPIAD, {"final_answer": []}, "'final_answer', found"),
        ("olympiadbench", {}, OLYMPIAD, {"is_multiple_answer": "True"}, "expected true or false"),
        ("cruxeval", {}, CRUX, {"input": 1}, "'input', found 1"),
        ("ifeval", {}, IFEVAL, {"kwargs": []}, "as many kwargs as instructions"),
        ("mmlu_pro", {}, MMLU, {"answer": "C"}, "the letter of one"),
        ("mmlu_pro", {}, MMLU, {"options": ["x", 2]}, "the letter of one"),
        ("humaneval", {}, HUMANEVAL, {"test": " "}, "'test'"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_and_nothing_is_written(
    config, tmp_path, adapter, settings, good, bad, message
):
    if settings.get("gold") == "number":
        good = good | {"answer": 1.0}
    load_benchmark(config(adapter, [good], settings))
    pinned = config(adapter, [good, {**good, **bad}], settings)
    with pytest.raises(CorruptFile, match=rf"in\.jsonl: line 2: .*{message}"):
        prepare_benchmark(pinned, tmp_path / "out" / "toy.jsonl")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"problem": "p", "answer": "1"}\n{"answer": "1"}\n', "line 2: .*no such column, but"),
        (b'{"problem": "p", "answer": "1"}\n{"problem": ', "in.jsonl:2: not valid JSON"),
        (b'{"problem": "\xff", "answer": "1"}\n', "in.jsonl:1: not valid UTF-8"),
        (b'{"problem": "\\ud800", "answer": "1"}\n', "row 0, column problem"),
        (b"[1]\n", "in.jsonl:1: expected a JSON object"),
        (b"[" * 100_000, "in.jsonl:1: not valid JSON"),
        (b"", "at least one problem"),
        (gzip.compress(b'{"problem": "p", "answer": "1"}\n', mtime=0)[:20], "cannot be unpacked"),
        (b'{"id": "x", "problem": "p", "answer": "1"}\n' * 2, "'x' already stands in row 0"),
    ],
)
def test_a_broken_file_is_named(config, tmp_path, content, message):
    pinned = config("math", content, {"id": "id"} if b'"id"' in content else {})
    with pytest.raises(CorruptFile, match=message) as error:
        prepare_benchmark(pinned, tmp_path / "out" / "toy.jsonl")
    assert "in.jsonl" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_other_counts_or_bytes_are_refused(config, tmp_path):
    with pytest.raises(PinMismatch, match="expected 2 problems, found 1"):
        load_benchmark(config("math", [MATH], counts={"problems": 2}))
    pinned = config("math", [MATH])
    (tmp_path / "in.jsonl").write_bytes(b"")
    with pytest.raises(PinMismatch, match="has sha256"):
        load_benchmark(pinned)
    with pytest.raises(ConfigError, match="adapter: expected one of"):
        load_benchmark(config("maths", [MATH]))


def test_ifeval_loses_arguments_of_null(config):
    (problem,), _ = load_benchmark(config("ifeval", [IFEVAL]))
    assert json.loads(problem["gold"]) == {"instruction_id_list": ["a:b"], "kwargs": [{"m": 2}]}


def test_a_hub_file_in_parquet_is_the_same_as_lines(config, tmp_path, monkeypatch):
    lines, _ = load_benchmark(config("mmlu_pro", [MMLU]))
    folder = tmp_path / "mirror" / "owner" / "name"
    folder.mkdir(parents=True)
    pd.DataFrame([MMLU]).to_parquet(folder / "test.parquet")
    monkeypatch.setenv("ENTROBENCH_MIRROR", str(tmp_path / "mirror"))
    pinned = config("mmlu_pro", [MMLU])
    hub = {"kind": "hub", "repository": "owner/name", "revision": "0" * 40, "path": "test.parquet"}
    hub["sha256"] = pin_of(folder / "test.parquet")["sha256"]
    pinned.source["files"]["problems"]["ways"].insert(0, hub)
    problems, source = load_benchmark(pinned)
    assert problems == lines
    assert source["problems"]["kind"] == "hub", "the hub's file comes first, as for the real MMLU-Pro"
    assert CONFIGS.benchmark("mmlu_pro").source["files"]["problems"]["ways"][0]["kind"] == "hub"


def test_letters_of_choices(config):
    (problem,), _ = load_benchmark(config("mmlu_pro", [MMLU | {"answer_index": 0}]))
    assert problem["gold"] == "B", "the letter counts"
    assert problem["extra"]["letter_and_index_disagree"] is True
    assert problem["extra"]["options"] == ["x", "y"]


def test_gpqa_is_gated_and_its_order_is_frozen(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    config = CONFIGS.benchmark("gpqa_diamond")
    monkeypatch.setenv("ENTROBENCH_MIRROR", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        MissingInput, match=r"Accept its terms at https://huggingface\.co/datasets/Idavidrein/gpqa"
    ):
        fetch_all(config.source, "gpqa", download=False)
    header = "Record ID,Question,Correct Answer,Incorrect Answer 1,Incorrect Answer 2,Incorrect Answer 3\n"
    rows = "".join(f'rec{n},"What,\nexactly?",right,a,b,c\n' for n in range(40))
    (tmp_path / "x.csv").write_text(header + rows, encoding="utf-8")
    problems = gpqa("gpqa_diamond", {"problems": tmp_path / "x.csv"}, config.settings)
    for problem in problems:
        order = problem["extra"]["choice_order"]
        shown = [["right", "a", "b", "c"][choice] for choice in order]
        assert problem["extra"]["options"] == shown
        assert problem["gold"] == "ABCD"[shown.index("right")]
    assert {problem["gold"] for problem in problems} == set("ABCD")
    # written out: another order would be another benchmark
    assert [choice_order(0, record, 4) for record in ("rec0", "rec1")] == FROZEN
    (tmp_path / "x.csv").write_text(header + "rec0,,right,a,b,c\n", encoding="utf-8")
    with pytest.raises(CorruptFile, match="'Question'"):
        gpqa("gpqa_diamond", {"problems": tmp_path / "x.csv"}, config.settings)


FROZEN = [[2, 0, 1, 3], [1, 2, 0, 3]]


def test_tool_questions_and_answers_are_paired(tmp_path, monkeypatch):
    monkeypatch.setenv("ENTROBENCH_SHARED_DATA", str(tmp_path))
    function = {"name": "f", "description": "d", "parameters": {"properties": {}}}
    question = {"id": "a", "question": [[{"role": "user", "content": "q"}]], "function": [function]}

    def make(questions, answers):
        files = {}
        for name, rows in (("question_x", questions), ("answer_x", answers)):
            write_jsonl(tmp_path / name, rows)
            files[name] = pin_of(tmp_path / name)
        source = {"kind": "files", "files": files}
        settings = {"categories": ["x"]}
        return Benchmark(benchmark="toy", title="t", source=source, adapter="bfcl", settings=settings)

    answer = {"id": "a", "ground_truth": [{"f": {}}]}
    assert load_benchmark(make([question], [answer]))[0][0]["gold"] == '[{"f": {}}]'
    for answers, message in (
        ([answer | {"id": "b"}], "line 1: 'a' and 'b'"),
        ([answer, answer], "found 1 and 2 rows"),
        ([answer | {"ground_truth": []}], "expected a list of calls"),
    ):
        with pytest.raises(CorruptFile, match=message):
            load_benchmark(make([question], answers))
    for functions, message in (([], "list of functions"), ([{"name": "f"}], "function with description")):
        with pytest.raises(CorruptFile, match=message):
            load_benchmark(make([question | {"function": functions}], [answer]))


def test_functions_of_java_ask_for_strings_and_their_tools_keep_their_types():
    ids = {"type": "ArrayList", "description": "Ids.", "items": {"type": "long"}}
    tool = {"name": "f", "description": "Does it.", "parameters": {"properties": {"ids": ids}}}
    shown = with_language(tool, "java", "here")
    assert shown["description"] == "Does it. Note that the provided function is in Java 8 SDK syntax."
    assert shown["parameters"]["properties"]["ids"] == {
        "type": "string",
        "description": "Ids. This is Java ArrayList type parameter in string representation. The list "
        "elements are of type long; they are not in string representation.",
    }
    assert ids == {"type": "ArrayList", "description": "Ids.", "items": {"type": "long"}}
    shown = with_language(tool, "live_simple", "here")
    assert shown == tool | {"description": "Does it. Note that the provided function is in Python 3 syntax."}


def test_conversations_are_split_at_turns():
    turns = conversation("user: a\nb: c\nsystem: d\nuser: e\n", "x")
    assert [(turn["role"], turn["content"]) for turn in turns] == [
        ("user", "a\nb: c"),
        ("assistant", "d"),
        ("user", "e"),
    ]
    for text in ("a", "system: a", "user: a\nsystem: b", ""):
        with pytest.raises(CorruptFile, match="expected turns"):
            conversation(text, "x")


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        (r"\boxed{a} and \boxed{b}", ["a", "b"]),
        (r"\boxed{\frac{1}{2}}", [r"\frac{1}{2}"]),
        (r"\boxed{\{1\}}", [r"\{1\}"]),
        (r"\boxed{1", []),
        (r"\boxed{\boxed{1}}", [r"\boxed{1}", "1"]),
    ],
)
def test_boxes(text, boxes):
    assert all_boxes(text) == boxes
