"""Tool-N1: the prompt as printed, both ways to the rows, both vocabularies, and what is refused."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st
from real_counts import pin_of

from entrobench.cells import training_prompt
from entrobench.configs import Configs, Dataset
from entrobench.data.call_syntax import parse_calls, parse_literal
from entrobench.data.prompts import render_fields
from entrobench.data.recipes.tool_n1 import TOOLACE_MARKER, rebuild_tool_n1
from entrobench.data.schema import read_verl_parquet
from entrobench.data.training_sets import prepare_training_set
from entrobench.errors import CorruptFile, MissingInput, PinMismatch
from entrobench.files import read_json, sha256_file, write_json
from entrobench.paths import repository_root
from entrobench.rewards.tool_call import grade_tool_call

TOOLS = [
    {"name": "Get Weather (v2)", "description": "weather", "parameters": {"city": {"type": "string"}}},
    {"name": "stock/price", "description": "price", "parameters": {}},
]
PROMPT = training_prompt("papo", "tool_n1", Configs(repository_root() / "configs"))
SYSTEM = PROMPT.value["messages"][0]["content"].replace("{{functions}}", "{tools}")
CALLS = [{"name": "Get Weather (v2)", "arguments": {"city": "Paris (FR)", "days": [1, 2]}}]
BRACKETS = '[Get Weather (v2)(city="Paris (FR)", days=[1, 2])]'


# -- prompt --------------------------------------------------------------------------------------------------


def test_the_prompt_is_the_appendix_character_for_character(real_data):
    appendix = real_data.parent / "papers" / "papo.txt"
    if not appendix.is_file():
        pytest.skip("the paper's text is absent")
    printed = appendix.read_text(encoding="utf-8").partition("Agentic Reasoning All agentic")[2]
    system = printed.partition("<|im_start|>system\n")[2].partition("<|im_end|>")[0]
    assert system == SYSTEM
    user = printed.partition("<|im_start|>user\n")[2].partition("<|im_end|>")[0]
    assert user == "{input}\n"
    asked = render_fields({"functions": [], "turns": [{"role": "user", "content": "{input}"}]}, PROMPT.value)
    assert asked[1] == {"role": "user", "content": user}


def test_qwens_chat_template_makes_the_appendix_of_the_messages(real_path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(real_path("tokenizer_qwen2_5"))
    fields = {"functions": [TOOLS[1]], "turns": [{"role": "user", "content": "Price?"}]}
    messages = render_fields(fields, PROMPT.value)
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    tool = (
        '{"type": "function", "function": {"name": "stock/price", "description": "price", "parameters": {}}}'
    )
    system = SYSTEM.replace("{tools}", tool)
    assert text == (
        f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\nPrice?\n<|im_end|>\n<|im_start|>assistant\n"
    )


# -- calls in brackets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("[]", []),
        ("[f()]", [("f", {})]),
        ("[ f ( ) , g(a=1) ]", [("f", {}), ("g", {"a": 1})]),
        (BRACKETS, [("Get Weather (v2)", {"city": "Paris (FR)", "days": [1, 2]})]),
        ("[a.b/c-d(x=\"it's, (fine) [=]\", y='\"')]", [("a.b/c-d", {"x": "it's, (fine) [=]", "y": '"'})]),
        ('[f(x="say \\"hi\\"")]', [("f", {"x": 'say "hi"'})]),
        ("[f(x={'a': (1, 2)}, y=-1.5, z=None)]", [("f", {"x": {"a": [1, 2]}, "y": -1.5, "z": None})]),
        ('[f(x=true, y={"a": null})]', [("f", {"x": True, "y": {"a": None}})]),
        ("[f(from date='x')]", [("f", {"from date": "x"})]),
    ],
)
def test_calls_in_brackets(text, calls):
    assert parse_calls(text) == [{"name": name, "arguments": arguments} for name, arguments in calls]


def test_names_of_tools_settle_what_a_name_is():
    # Without the list, a space before the arguments makes (US) the arguments of Driver's Log
    names = ["Driver's Log (US)", "Driver's Log"]
    assert parse_calls("[Driver's Log (US) (n=1)]", names)[0]["name"] == "Driver's Log (US)"
    with pytest.raises(ValueError, match="without a name"):
        parse_calls("[Driver's Log (US) (n=1)]")


BAD_VALUES = ["", "b", "open('x')", "1+1", "{1, 2}", "b'x'", "1j", "{1: 2}", "1e999", "NaN", "'x", "\x00"]
DEEP_VALUES = ["[" * 10_000 + "]" * 10_000, "9" * 50_000, "-" * 10_000 + "1"]
BAD_LISTS = [
    "",
    "f()",
    "[f(]",
    "[f()",
    "[f() g()]",
    "[f(), ]",
    "[f(1)]",
    "[f(a=1, a=2)]",
    "[(a=1)]",
    "[text]",
]


@pytest.mark.parametrize("text", [*BAD_LISTS, *(f"[f(a={value})]" for value in BAD_VALUES + DEEP_VALUES)])
def test_what_is_no_list_of_calls(text):
    with pytest.raises(ValueError):  # noqa: PT011
        parse_calls(text)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner)))
def test_literals_come_back_from_their_python_and_json_texts(value):
    assert parse_literal(repr(value)) == value
    assert parse_literal(json.dumps(value)) == value


@given(st.text(alphabet="[](){}='\",\\ fa1", max_size=40))
def test_no_text_crashes_the_parser(text):
    try:
        calls = parse_calls(f"[{text}]")
    except ValueError:
        return
    assert all(set(call) == {"name", "arguments"} for call in calls)


# -- rebuild -------------------------------------------------------------------------------------------------


def toolace_row(turns, tools=TOOLS, roles=("user", "assistant", "tool")):
    speakers = dict(zip("uat", roles, strict=True))
    system = (
        f"Expert. {TOOLACE_MARKER}{json.dumps(tools)}. \nShould you decide to return the function call(s)."
    )
    return {
        "system": system,
        "conversations": [{"from": speakers[who], "value": value} for who, value in turns],
    }


def xlam_row(number):
    return {
        "id": number,
        "query": f"question {number}",
        "tools": json.dumps(TOOLS),
        "answers": json.dumps([{"name": "stock/price", "arguments": {"n": number}}]),
    }


MULTI_TURN = [
    ("u", "Weather?"),
    ("a", BRACKETS),
    ("t", '{"rain": true}'),
    ("a", "It rains."),
    ("u", "Price?"),
    ("a", '[stock/price(symbol="X")]'),
]


def rebuild(tmp_path, xlam, toolace, **options):
    write_json(tmp_path / "xlam.json", xlam)
    write_json(tmp_path / "toolace.json", toolace)
    target = tmp_path / "out" / "train.parquet"
    return rebuild_tool_n1(tmp_path / "xlam.json", [tmp_path / "toolace.json"], target, {}, PROMPT, **options)


def rebuilt_rows(tmp_path):
    rows = [
        row for name in ("train", "test") for row in read_verl_parquet(tmp_path / "out" / f"{name}.parquet")
    ]
    return {row.extra_info.index: row for row in rows}


def test_rebuild_has_a_row_for_each_step_that_calls(tmp_path):
    manifest = rebuild(tmp_path, [xlam_row(number) for number in range(8)], [toolace_row(MULTI_TURN)])
    rows = rebuilt_rows(tmp_path)
    # 8 of xLAM, the first step of the conversation with one turn before it and the second with five
    assert manifest["kinds"] == {"xlam": 8, "toolace_single_turn": 1, "toolace_multi_turn": 1}
    assert manifest["split"]["published"] is False
    assert "not its rows" in manifest["split"]["note"]
    # int(10 x .9) = 9
    assert (manifest["split"]["train"], manifest["split"]["test"]) == (9, 1)
    assert manifest["dropped"] == {}
    assert len(rows) == 10
    step = rows["toolace/0/5"]
    assert step.data_source == "tool_n1"
    assert step.ability == "toolcall"
    assert [message.role for message in step.prompt] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]
    # Dumped once: one reading gives the calls, in the history as in the gold
    assert json.loads(step.prompt[2].content) == CALLS
    assert json.loads(step.reward_model.ground_truth) == [
        {"name": "stock/price", "arguments": {"symbol": "X"}}
    ]
    for row in rows.values():
        reply = f"<think>t</think><tool_call>{row.reward_model.ground_truth}</tool_call>"
        assert grade_tool_call(reply, row.reward_model.ground_truth).verdict == "correct"


def test_both_vocabularies_give_the_same_rows(tmp_path):
    pre_split = [(who, json.dumps(CALLS) if value == BRACKETS else value) for who, value in MULTI_TURN]
    hub = toolace_row(MULTI_TURN)
    sharegpt = toolace_row(pre_split, roles=("human", "gpt", "observation"))
    sharegpt["conversations"][1]["from"] = "function_call"
    rebuild(tmp_path / "a", [xlam_row(0)], [hub])
    rebuild(tmp_path / "b", [xlam_row(0)], [sharegpt])
    assert rebuilt_rows(tmp_path / "a") == rebuilt_rows(tmp_path / "b")


def test_the_seed_decides_the_split_and_nothing_else(tmp_path):
    rows = [xlam_row(number) for number in range(50)]
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        rebuild(tmp_path / name, rows, [], seed=seed)
    files = {name: (tmp_path / name / "out" / "train.parquet") for name in "abc"}
    assert sha256_file(files["a"]) == sha256_file(files["b"])
    assert sha256_file(files["a"]) != sha256_file(files["c"])
    assert set(rebuilt_rows(tmp_path / "a")) == set(rebuilt_rows(tmp_path / "c"))
    # A slice of 5 comes from the 45 of the train split
    manifest = rebuild(tmp_path / "d", rows, [], limit=5)
    assert manifest["rows_out"] == 5
    whole = {row.extra_info.index for row in read_verl_parquet(files["a"])}
    assert {row.extra_info.index for row in read_verl_parquet(tmp_path / "d/out/train.parquet")} < whole


def test_rows_that_cannot_be_used_are_dropped_with_their_reason(tmp_path):
    empty = xlam_row(2) | {"query": "  "}
    broken = xlam_row(3) | {"answers": "[{]"}
    surrogate = xlam_row(4) | {"query": "\ud800"}
    toolless = xlam_row(5) | {"tools": "[]"}
    conversations = [
        toolace_row([("u", "x"), ("a", "[unlisted(a=1)]")]),
        toolace_row([("u", "x"), ("a", "[stock/price(a=b)]")]),
        toolace_row([("a", "[stock/price(a=1)]")]),
        {"system": "no tools", "conversations": [{"from": "user", "value": "x"}]},
    ]
    # write_json writes a lone surrogate as such, which is no UTF-8; JSON's escape for it is
    (tmp_path / "xlam.json").write_text(
        json.dumps([xlam_row(0), xlam_row(1), empty, broken, surrogate, toolless])
    )
    write_json(tmp_path / "toolace.json", conversations)
    target = tmp_path / "out" / "train.parquet"
    manifest = rebuild_tool_n1(tmp_path / "xlam.json", [tmp_path / "toolace.json"], target, {}, PROMPT)
    assert manifest["dropped_ids"] == {
        "an empty turn": ["xlam/2"],
        "tools or gold that cannot be read": ["xlam/3"],
        "text that is no UTF-8": ["xlam/4"],
        "no tools": ["xlam/5"],
        "a call of a tool that is not listed": ["toolace/0/1"],
        "calls that cannot be read": ["toolace/1/1"],
        "no question before the calls": ["toolace/2/0"],
        "no list of tools in the system text": ["toolace/3"],
    }
    assert read_json(target.with_name("manifest.json")) == manifest


@pytest.mark.parametrize(
    ("xlam", "message"),
    [
        ('[{"id": 1, "query": "q", "answers": "[]"}]', "column tools"),
        ('[{"id": 1, "query": 5, "answers": "[]", "tools": "[]"}]', "column query"),
        # answers as a list instead of a JSON text: another export of the data set
        ('[{"id": 1, "query": "q", "answers": [], "tools": "[]"}]', "column answers"),
        ('[{"id": 1, "query": "q"', "not valid JSON"),
        ("[" * 10_000, "nested too deep"),
        ("{}", "expected a list of rows"),
        ("[]", "at least one usable row"),
        ('["\xff"]', "not valid JSON"),
    ],
)
def test_altered_xlam_files_are_refused(tmp_path, xlam, message):
    (tmp_path / "xlam.json").write_bytes(xlam.encode("latin-1"))
    write_json(tmp_path / "toolace.json", [])
    target = tmp_path / "train.parquet"
    with pytest.raises(CorruptFile, match=message):
        rebuild_tool_n1(tmp_path / "xlam.json", [tmp_path / "toolace.json"], target, {}, PROMPT)
    assert not (tmp_path / "train.parquet").exists()


def test_duplicate_ids_unknown_speakers_and_wrong_counts_are_refused(tmp_path):
    with pytest.raises(CorruptFile, match="unique ids"):
        rebuild(tmp_path, [xlam_row(1), xlam_row(1)], [])
    stranger = toolace_row([("u", "x")], roles=("narrator", "assistant", "tool"))
    with pytest.raises(CorruptFile, match=r"toolace.json: row 0, column conversations.0.from"):
        rebuild(tmp_path, [xlam_row(1)], [stranger])
    write_json(tmp_path / "toolace.json", [])
    with pytest.raises(PinMismatch, match="expected 60000 rows, found 1"):
        rebuild_tool_n1(
            tmp_path / "xlam.json",
            [tmp_path / "toolace.json"],
            tmp_path / "train.parquet",
            {"xlam_rows": 60000},
            PROMPT,
        )


# -- the authors' file ---------------------------------------------------------------------------------------


def published_file(path, changes=None):
    """A parquet in the form of the authors' train.parquet, its function_call turns as their JSON."""
    rows = [
        {
            "tools": json.dumps(TOOLS),
            "conversations": [{"from": "human", "value": f"question {number}"}],
            "answer": json.dumps(CALLS),
            "raw_system": SYSTEM.partition("# Tool")[0],
            "data_source": "toolcall",
            "prompt": [{"role": "system", "content": "theirs"}],
            "ability": "toolcall",
            "reward_model": {"style": "rule", "ground_truth": json.dumps(CALLS)},
            "extra_info": {"split": "train", "index": number, "prompt_type": "qwen"},
        }
        for number in range(4)
    ]
    rows[1]["conversations"] += [
        {"from": "function_call", "value": json.dumps(CALLS)},
        {"from": "observation", "value": "rain"},
    ]
    rows[1]["raw_system"] = "Today is Monday."
    for number, change in (changes or {}).items():
        rows[number] |= change
    pd.DataFrame(rows).to_parquet(path)
    return pinned(path)


def pinned(path):
    """The configuration of Tool-N1 with `path` as its pinned file."""
    return Dataset(
        dataset="tool_n1",
        title="Tool-N1",
        recipe="tool_n1",
        source={"kind": "files", "files": {"train": pin_of(path) | {"bytes": path.stat().st_size}}},
    )


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Where the pinned file of a test lies."""
    monkeypatch.setenv("ENTROBENCH_SHARED_DATA", str(tmp_path))
    return tmp_path / "in.parquet"


def test_the_authors_rows_get_papos_prompt(source, tmp_path):
    config = published_file(source)
    manifest = prepare_training_set(config, tmp_path / "train.parquet", PROMPT)
    rows = read_verl_parquet(tmp_path / "train.parquet")
    assert manifest["rows_in"] == manifest["rows_out"] == len(rows) == 4
    assert manifest["kinds"] == {"question": 3, "history": 1}
    assert manifest["counts"] == {"system_texts": 2, "equal_rows_kept": 0}
    assert manifest["split"] == {"published": True}
    assert manifest["sha256"] == sha256_file(tmp_path / "train.parquet")
    assert {row.ability for row in rows} == {"toolcall"}
    assert rows[0].prompt[0].content.startswith("You are an expert in composing functions.")
    assert [message.role for message in rows[1].prompt] == ["system", "user", "assistant", "tool"]
    assert json.loads(rows[1].prompt[2].content) == CALLS
    assert json.loads(rows[0].reward_model.ground_truth) == CALLS
    assert prepare_training_set(config, tmp_path / "two.parquet", PROMPT, limit=2)["rows_out"] == 2


def test_golds_written_as_json_of_json_are_read_and_unreadable_rows_listed(source, tmp_path):
    changes = {
        0: {"reward_model": {"style": "rule", "ground_truth": json.dumps(json.dumps(CALLS))}},
        2: {"reward_model": {"style": "rule", "ground_truth": "{"}},
        3: {"conversations": [{"from": "narrator", "value": "x"}]},
    }
    manifest = prepare_training_set(published_file(source, changes), tmp_path / "train.parquet", PROMPT)
    dropped = {entry["reason"]: entry["ids"] for entry in manifest["dropped"]}
    assert dropped == {"tools, turns or gold that cannot be read": ["2", "3"]}
    assert json.loads(read_verl_parquet(tmp_path / "train.parquet")[0].reward_model.ground_truth) == CALLS


def test_another_file_than_the_pinned_one_is_refused(source, tmp_path):
    target = tmp_path / "train.parquet"
    config = published_file(source)
    whole = source.read_bytes()
    source.write_bytes(whole[:-10])
    with pytest.raises(PinMismatch, match=rf"has {len(whole) - 10} bytes, expected {len(whole)}"):
        prepare_training_set(config, target, PROMPT)
    source.write_bytes(whole[:-1] + b"X")
    with pytest.raises(PinMismatch, match="sha256"):
        prepare_training_set(config, target, PROMPT)
    source.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:cb08\nsize 83495252\n")
    with pytest.raises(CorruptFile, match="git lfs pull"):
        prepare_training_set(pinned(source), target, PROMPT)
    pd.DataFrame({"tools": ["[]"]}).to_parquet(source)
    with pytest.raises(CorruptFile, match="missing column"):
        prepare_training_set(pinned(source), target, PROMPT)
    source.unlink()
    with pytest.raises(MissingInput, match="does not exist"):
        prepare_training_set(config, target, PROMPT)
    assert not target.exists()


def test_the_verbs_say_what_is_missing(tmp_path):
    for command in (["prepare-dataset", "tool_n1"], ["rebuild-tool-n1"]):
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "entrobench.cli",
                *command,
                tmp_path / "train.parquet",
                "--prompt",
                "papo",
            ],
            env={
                "ENTROBENCH_SHARED_DATA": str(tmp_path),
                "ENTROBENCH_CACHE": str(tmp_path),
                "HF_HUB_OFFLINE": "1",
                "PYTHONPATH": str(Path("src").resolve()),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr.startswith("MissingInput: ")
        assert "tool_n1/" in done.stderr


def test_the_authors_real_file(real_path, tmp_path):
    real_path("tool_n1/train.parquet")
    config = Configs(repository_root() / "configs").dataset("tool_n1")
    manifest = prepare_training_set(config, tmp_path / "train.parquet", PROMPT)
    assert manifest["rows_in"] == 62687


# -- real rows of relatives ----------------------------------------------------------------------------------


def test_real_masked_xlam_rows_go_through_the_rebuild(real_path, tmp_path):
    path = real_path("tool_hammer_xlam/masking_sft_data_example.json")
    rows = []
    for number, row in enumerate(read_json(path)):
        tools = re.search(r"\[BEGIN OF AVAILABLE TOOLS\]\n(.*?)\n\[END", row["instruction"], re.DOTALL).group(
            1
        )
        query = re.search(r"\[BEGIN OF QUERY\]\n(.*?)\n\[END", row["instruction"], re.DOTALL).group(1)
        rows.append({"id": number, "query": query, "tools": tools, "answers": row["output"].strip("`\n ")})
    manifest = rebuild(tmp_path, rows, [])
    assert manifest["rows_in"] == 10
    assert manifest["dropped"] == {}
    for row in rebuilt_rows(tmp_path).values():
        gold = row.reward_model.ground_truth
        assert json.loads(gold) == json.loads(
            rows[int(row.extra_info.index.removeprefix("xlam/"))]["answers"]
        )
        assert grade_tool_call(f"<think></think><tool_call>{gold}</tool_call>", gold).verdict == "correct"


def test_real_calls_of_toolrl_survive_both_syntaxes(real_path):
    path = real_path("tool_rlla_toolrl/rlla_4k_test.parquet")
    seen = damaged = 0
    for model in pd.read_parquet(path)["reward_model"]:
        block = re.search(r"<tool_call>\n(.*?)\n</tool_call>", model["ground_truth"], re.DOTALL)
        if block is None:
            continue  # rows that answer without a tool
        calls = [json.loads(line) for line in block.group(1).split("\n")]
        calls = [{"name": call["name"], "arguments": call["parameters"]} for call in calls]
        # Its own form has "parameters" and a call a line, which Tool-N1's reward refuses
        assert grade_tool_call(model["ground_truth"], json.dumps(calls)).verdict == "incorrect"
        reply = f"<think>t</think><tool_call>{json.dumps(calls)}</tool_call>"
        assert grade_tool_call(reply, json.dumps(calls)).verdict == "correct"
        written = ", ".join(
            f"{call['name']}({', '.join(f'{key}={value!r}' for key, value in call['arguments'].items())})"
            for call in calls
        )
        parsed = parse_calls(f"[{written}]", {call["name"] for call in calls})
        if any(")(" in key for call in calls for key in call["arguments"]):
            # ToolRL's rows were cut at the first parenthesis of a tool's name; written out and read here, the
            # name is whole again: DAX Point Changes for Each Month (January-August, 2022)
            damaged += 1
            assert parsed[0]["name"].endswith("(January-August, 2022)")
            assert set(parsed[0]["arguments"]) == {"start_string", "end_string"}
        else:
            assert parsed == calls
        seen += 1
    assert seen >= 40
    assert damaged == 1
