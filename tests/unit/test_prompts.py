"""Prompts: fields, lists, conversations, files of other people's, and what is refused."""

import pytest
from real_counts import pin_of

from entrobench.configs import PromptFile
from entrobench.data.prompt_files import prepare_or_say_why, prepare_prompt
from entrobench.data.prompts import render_fields
from entrobench.errors import ConfigError, CorruptFile, MissingInput, PinMismatch
from entrobench.files import read_json

pytestmark = pytest.mark.slow


def asked(content, **fields):
    (message,) = render_fields(fields, {"messages": [{"role": "user", "content": content}]})
    return message["content"]


def test_fields_are_put_in_once():
    assert asked("{{a}} {{b}} {{a}}", a="{{b}}", b="x") == "{{b}} x {{b}}"
    assert asked("\\boxed{} {{{a}}}", a="1") == "\\boxed{} {1}"


def test_lists_are_written_one_entry_a_line():
    assert asked("{{options}}", options=["x", "y"]) == "A. x\nB. y"
    functions = [{"name": "f", "description": "größer"}, {"name": "g"}]
    assert asked("<{{functions}}>", functions=functions) == (
        '<{"type": "function", "function": {"name": "f", "description": "größer"}}\n'
        '{"type": "function", "function": {"name": "g"}}>'
    )


def test_a_conversation_keeps_its_turns():
    turns = [
        {"role": "user", "content": "{{problem}}"},
        {"role": "assistant", "content": "[]"},
        {"role": "tool", "content": "1"},
        {"role": "user", "content": "And?"},
    ]
    prompt = {"messages": [{"role": "system", "content": "S {{problem}}"}, {"turns": "{{content}}\n"}]}
    assert render_fields({"problem": "p", "turns": turns}, prompt) == [
        {"role": "system", "content": "S p"},
        {"role": "user", "content": "{{problem}}\n"},
        {"role": "assistant", "content": "[]"},
        {"role": "tool", "content": "1"},
        {"role": "user", "content": "And?\n"},
    ]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({"messages": [{"role": "user", "content": "{{quastion}}"}]}, "no field 'quastion', only n, problem"),
        (
            {"messages": [{"role": "user", "content": "{{n}}"}]},
            r"expected text in the field 'n', found \[1\]",
        ),
        ({"messages": [{"turns": "{{content}}"}]}, "no field 'turns'"),
        ({"messages": []}, "expected one of messages"),
        ({"pinned": "zeroeval_crux"}, "zeroeval_crux has no file; use the prompt of a resolved cell.yaml"),
        ({"lm_eval": "gsm8k"}, "lm_eval: expected one of ifeval, mmlu_pro, found 'gsm8k'"),
        ({"lm_eval": "mmlu_pro", "shots": "a", "zero_shot": True}, "expected shots or zero_shot, found both"),
        ({"lm_eval": "mmlu_pro"}, "no part for the category ''"),
    ],
)
def test_what_cannot_be_asked_is_named(prompt, message):
    with pytest.raises(ConfigError, match=message):
        render_fields({"problem": "p", "n": [1]}, prompt)


def test_a_file_that_is_not_prepared_says_what_to_type(tmp_path):
    prompt = {"pinned": "zeroeval_crux", "file": str(tmp_path / "zeroeval_crux.json")}
    with pytest.raises(MissingInput, match="Type: entrobench prepare-prompt zeroeval_crux"):
        render_fields({"problem": "p"}, prompt)


# -- files of other people's ---------------------------------------------------------------------------------

TEMPLATE = 'OEQA = """Q: {question}\nA:"""\nOTHER = 1\n'
QUESTION = 'def make_direct_output_prompt(code, input):\n    return f"""\nRun {code} on {{{input}}}.\n"""\n'


@pytest.fixture
def zeroeval(tmp_path, monkeypatch):
    """Makes the configuration of files with these texts."""
    monkeypatch.setenv("ENTROBENCH_SHARED_DATA", str(tmp_path))

    def make(template=TEMPLATE, question=QUESTION, **pin):
        files = {}
        for name, text in (("template", template), ("question", question)):
            (tmp_path / f"{name}.py").write_text(text)
            files[name] = pin_of(tmp_path / f"{name}.py") | pin
        source = {"kind": "files", "files": files}
        return PromptFile(prompt="toy", title="toy", source=source, reader="zeroeval_crux")

    return make


def test_a_template_is_parsed_and_never_run(zeroeval, tmp_path):
    marker = tmp_path / "ran"
    template = TEMPLATE + f"open({str(marker)!r}, 'w')\n"
    target = tmp_path / "out" / "toy.json"
    written = prepare_prompt(zeroeval(template), target)
    assert read_json(target) == written
    assert not marker.exists()
    # the question's outer line breaks go, as in ZeroEval, and doubled braces are one
    (message,) = render_fields({"code": "c", "input": "{{code}}"}, {"pinned": "toy", "file": str(target)})
    assert message == {"role": "user", "content": "Q: Run c on {{{code}}}.\nA:"}
    assert set(written["source"]) == {"template", "question"}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"template": "OEQA = 1\n"}, "template.py: expected a text OEQA"),
        ({"template": 'OEQA = "no place"\n'}, r"expected \{question\}, code and input"),
        ({"template": "def (\n"}, "template.py is no Python"),
        ({"question": "def other():\n    return f'{x}'\n"}, "expected a function make_direct_output_prompt"),
        (
            {"question": "def make_direct_output_prompt(code, input):\n    return f'{code.x} {input}'\n"},
            r"expected text and names in the f-string, found \{?code\.x",
        ),
    ],
)
def test_a_template_of_another_form_is_refused(zeroeval, tmp_path, texts, message):
    with pytest.raises(CorruptFile, match=message):
        prepare_prompt(zeroeval(**texts), tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


def test_a_file_that_cannot_be_had_leaves_the_reason_in_its_place(zeroeval, tmp_path):
    config = zeroeval()
    (tmp_path / "template.py").unlink()
    with pytest.raises(MissingInput, match=r"template\.py does not exist"):
        prepare_prompt(config, tmp_path / "out.json")
    assert prepare_or_say_why(config, tmp_path / "out.json") is None
    with pytest.raises(MissingInput, match=r"template\.py does not exist"):
        render_fields({"problem": "p"}, {"pinned": "toy", "file": str(tmp_path / "out.json")})


def test_a_template_that_is_not_the_pinned_one_is_refused(zeroeval, tmp_path):
    with pytest.raises(PinMismatch, match="expected 1: longer than the pinned file"):
        prepare_prompt(zeroeval(bytes=1), tmp_path / "out.json")


def shot(number, category):
    return {
        "question_id": number,
        "question": f"q{number}?",
        "options": ["x", " y"],
        "answer": "A",
        "answer_index": 0,
        "cot_content": f"A: Let's think step by step. Because {number}. The answer is (A).",
        "category": category,
        "src": "s",
    }


def test_mmlu_pro_is_asked_as_lm_eval_asks_it_with_the_examples_of_its_category(tmp_path, monkeypatch):
    import pandas as pd

    folder = tmp_path / "TIGER-Lab" / "MMLU-Pro"
    folder.mkdir(parents=True)
    rows = [shot(n, "math" if n % 2 else "computer science") for n in range(12)]
    pd.DataFrame(rows).to_parquet(folder / "validation.parquet")
    monkeypatch.setenv("ENTROBENCH_MIRROR", str(tmp_path))
    way = {"kind": "hub", "repository": "TIGER-Lab/MMLU-Pro", "revision": "0" * 40}
    files = {
        "shots": pin_of(folder / "validation.parquet") | {"ways": [way | {"path": "validation.parquet"}]}
    }
    config = PromptFile(
        prompt="shots", title="t", source={"kind": "files", "files": files}, reader="few_shot_rows"
    )
    prepare_prompt(config, tmp_path / "shots.json")
    prompt = {"lm_eval": "mmlu_pro", "shots": "shots", "file": str(tmp_path / "shots.json")}
    fields = {"problem": "What {{x}}?", "options": ["u", "v"], "category": "computer science"}
    messages = render_fields(fields, prompt)
    # lm-eval's description; five examples of the category in their order, of six; the question
    assert [message["role"] for message in messages] == ["system", *["user", "assistant"] * 5, "user"]
    assert "about computer science." in messages[0]["content"]
    for number, (question, answer) in enumerate(zip(messages[1:-1:2], messages[2:-1:2], strict=True)):
        example = 2 * number
        assert question["content"] == (
            f"Question:\nq{example}?\nOptions:\nA. x\nB. y\nAnswer: Let's think step by step."
        )
        assert answer["content"] == f"Because {example}. The answer is (A)."
    assert messages[-1]["content"] == (
        "Question:\nWhat {{x}}?\nOptions:\nA. u\nB. v\nAnswer: Let's think step by step."
    )
    with pytest.raises(ConfigError, match="no part for the category 'chess'"):
        render_fields(fields | {"category": "chess"}, prompt)
    with pytest.raises(ConfigError, match="`shots` has to name their file"):
        render_fields(fields, {"lm_eval": "mmlu_pro"})
    # Without examples, of which no file is read
    zero_shot = render_fields(fields, {"lm_eval": "mmlu_pro", "zero_shot": True})
    assert zero_shot == [messages[0], messages[-1]]
