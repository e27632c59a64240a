"""ACEBench's own checker behind our interface: where it comes from, and the real golds."""

import json
from collections import Counter

import pytest
from call_data import acebench_golds, completion_of, evaluating_calls

from entrobench.configs import Configs
from entrobench.data.benchmarks import prepare_benchmark
from entrobench.data.sources import fetch
from entrobench.data.tool_benchmarks import acebench_checker
from entrobench.errors import MissingInput, PinMismatch
from entrobench.paths import repository_root
from entrobench.rewards import acebench
from entrobench.rewards.graders import grade_many, grader_of, require_grader

pytestmark = pytest.mark.slow

# category -> golds that (ACEBench's own reading, the text as it stands) accept, of 50 or 100
ACCEPTED = {
    "acebench_en": {
        "atom_bool": (50, 50),
        "atom_enum": (50, 50),
        "atom_list": (50, 50),
        "atom_number": (50, 50),
        "atom_object_deep": (33, 50),
        "atom_object_short": (50, 50),
        "single_turn_single_function": (92, 100),
        "single_turn_parallel_function": (86, 99),
    },
    "acebench_zh": {
        "atom_bool": (50, 50),
        "atom_enum": (50, 50),
        "atom_list": (49, 49),
        "atom_number": (50, 50),
        "atom_object_deep": (50, 50),
        "atom_object_short": (49, 49),
        "single_turn_single_function": (99, 100),
        "single_turn_parallel_function": (97, 98),
    },
}


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A machine without the checker; the folder that is its cache."""
    monkeypatch.setenv("ENTROBENCH_SHARED_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("ENTROBENCH_CACHE", str(tmp_path))
    monkeypatch.delenv("ENTROBENCH_MIRROR", raising=False)
    return tmp_path


@pytest.fixture
def checker():
    """The real checker, or a skip that says where it was looked for."""
    try:
        return acebench.checker_folder()
    except MissingInput as error:
        pytest.skip(str(error))


def test_without_the_checker_the_error_says_where_it_may_lie_and_what_to_type(nowhere):
    with pytest.raises(MissingInput) as found:
        require_grader("acebench_en")
    assert f"{nowhere}/ACEBench/ACEBench/{acebench.REVISION}" in str(found.value)
    assert "entrobench prepare-benchmark acebench_en" in str(found.value)


def test_another_checker_is_refused(nowhere):
    for name in acebench.FILES:
        path = nowhere / acebench.REPOSITORY / acebench.REVISION / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("def normal_checker(*_): return {'valid': True}\n")
    with pytest.raises(PinMismatch, match=r"checker\.py has sha256 \w+, expected c4eb"):
        grader_of("acebench_en")("x", {"answer": {}, "tools": [], "category": "atom_bool"})


@pytest.mark.parametrize("place", ["shared", "mirror", "cache"])
def test_the_checker_is_found_where_data_are_found(checker, nowhere, monkeypatch, place):
    """Where rewards/acebench.py looks, data/sources.py looks or leaves its downloads."""
    monkeypatch.setenv("ENTROBENCH_SHARED_DATA", str(nowhere / "shared"))
    monkeypatch.setenv("ENTROBENCH_MIRROR", str(nowhere / "mirror"))
    folder = (
        nowhere
        / {
            "shared": "shared/acebench",
            "mirror": f"mirror/{acebench.REPOSITORY}",
            "cache": f"{acebench.REPOSITORY}/{acebench.REVISION}",
        }[place]
    )
    (folder / "model_eval").mkdir(parents=True)
    for name in acebench.FILES:
        (folder / name).write_bytes((checker / name).read_bytes())
    assert acebench.checker_folder() == folder
    for name, file in acebench_checker().items():
        assert fetch(file, "test", download=False).path == folder / name


def test_preparing_the_benchmark_says_whether_its_checker_is_here(real_data, checker, monkeypatch, tmp_path):
    config = Configs(repository_root() / "configs").benchmark("acebench_zh")
    found = prepare_benchmark(config, tmp_path / "zh.jsonl", limit=8)["checker"]
    assert {name: record["sha256"] for name, record in found.items()} == acebench.FILES
    monkeypatch.setenv("ENTROBENCH_CACHE", str(tmp_path))
    monkeypatch.delenv("ENTROBENCH_MIRROR", raising=False)
    missing = prepare_benchmark(config, tmp_path / "zh.jsonl", limit=8)["checker"]["missing"]
    assert "model_eval/checker.py: not on this machine" in missing


def test_the_checker_runs_no_text_as_code(checker):
    for name in acebench.FILES:
        assert evaluating_calls(checker / name) == set(), name


TOOLS = [
    {
        "name": "book",
        "description": "",
        "parameters": {
            "type": "object",
            "properties": {
                "day": {"type": "string"},
                "guests": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["day"],
        },
    }
]


@pytest.mark.parametrize(
    ("calls", "verdicts"),
    [
        ([{"name": "book", "arguments": {"day": "1 May"}}], ("correct", "correct")),
        ([{"name": "book", "arguments": {"day": "on 1 MAY"}}], ("correct", "correct")),  # holds the gold
        ([{"name": "book", "arguments": {"day": "2 May"}}], ("incorrect", "incorrect")),
        (
            [{"name": "book", "arguments": {"day": "1\tMay"}}],
            ("incorrect", "incorrect"),
        ),  # an escape is no space
        ([{"name": "book", "arguments": {"day": "1\u3000May"}}], ("correct", "incorrect")),
        ([{"name": "book", "arguments": {"day": "1 May", "hour": 1}}], ("incorrect", "incorrect")),
        ([{"name": "book", "arguments": {}}], ("incorrect", "incorrect")),
        ([{"name": "book", "arguments": {"day": "1 May"}}] * 2, ("incorrect", "incorrect")),
        ([{"name": "sell", "arguments": {"day": "1 May"}}], ("incorrect", "incorrect")),
        ([], ("incorrect", "incorrect")),
    ],
)
def test_verdicts(checker, calls, verdicts):
    found = acebench.grade_acebench(
        completion_of(calls), TOOLS, [{"book": {"day": "3 May"}}, {"book": {"day": "1 May"}}]
    )
    assert (found.verdict, found.second_verdict) == verdicts


@pytest.mark.parametrize(
    "completion",
    [
        "no call",
        "<tool_call>" * 200_000,
        completion_of("x").replace('"x"', "[" * 200_000),
        "<tool_call>[book(day=__import__('os').getcwd())]</tool_call>",
        "<tool_call>[book(day=9**9**9)]</tool_call>",
    ],
)
def test_what_is_no_json_is_no_call(checker, completion):
    found = acebench.grade_acebench(completion, TOOLS, {"book": {"day": "1 May"}})
    assert (found.verdict, found.second_verdict) == ("incorrect", "incorrect")


@pytest.mark.parametrize("benchmark", ACCEPTED)
def test_golds_against_themselves(real_data, checker, benchmark):
    pairs = acebench_golds(benchmark)
    grades = grade_many(grader_of(benchmark), pairs)
    first, second = Counter(), Counter()
    for grade, (_, gold) in zip(grades, pairs, strict=True):
        first[gold["category"]] += grade.verdict == "correct"
        second[gold["category"]] += grade.second_verdict == "correct"
    assert {category: (first[category], second[category]) for category in first} == ACCEPTED[benchmark]
    assert "error" not in {verdict for grade in grades for verdict in (grade.verdict, grade.second_verdict)}


@pytest.mark.parametrize("benchmark", ACCEPTED)
def test_a_call_left_out_or_under_another_name_is_never_accepted(real_data, checker, benchmark):
    altered = []
    for completion, gold in acebench_golds(benchmark):
        calls = json.loads(completion.split("<tool_call>")[1].removesuffix("</tool_call>"))
        altered += [
            (completion_of(calls[1:]), gold),
            (completion_of([*calls[:-1], calls[-1] | {"name": "other"}]), gold),
        ]
    grades = grade_many(grader_of(benchmark), altered)
    assert {grade.verdict for grade in grades} == {grade.second_verdict for grade in grades} == {"incorrect"}
