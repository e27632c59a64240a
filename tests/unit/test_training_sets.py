"""Training sets: what is kept, what is dropped and why, and what is refused. Real files where they are."""

import pandas as pd
import pytest
from real_counts import pin_of

from entrobench.cells import training_prompt
from entrobench.configs import Configs, Dataset
from entrobench.data.recipes import dapo
from entrobench.data.recipes.numina import select_numina
from entrobench.data.recipes.still3 import MARKER, gold_text, select_still3
from entrobench.data.schema import read_verl_parquet
from entrobench.data.training_sets import check_selection, prepare_training_set, select
from entrobench.errors import ConfigError, CorruptFile, MissingInput, PinMismatch
from entrobench.files import read_json, read_jsonl
from entrobench.paths import repository_root

CONFIGS = Configs(repository_root() / "configs")
CONFLICT = dapo.CONFLICT
PROMPT = training_prompt("papo", "dapo_math_17k", CONFIGS)


def make_dapo(path, problems, indices=None):
    """A parquet in the form of DAPO-Math-17K: (text, answer) pairs wrapped in its prompt."""
    path.parent.mkdir(parents=True, exist_ok=True)
    indices = indices or [f"id-{i}" for i in range(len(problems))]
    prompts = [[{"content": dapo.PREFIX + text + dapo.SUFFIX, "role": "user"}] for text, _ in problems]
    pd.DataFrame(
        {
            "data_source": "math_dapo",
            "prompt": prompts,
            "ability": "MATH",
            "reward_model": [{"ground_truth": gold, "style": "rule"} for _, gold in problems],
            "extra_info": [{"index": index} for index in indices],
        }
    ).to_parquet(path)
    return path


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Makes the configuration of a data set whose file `in.parquet` is pinned as it stands."""
    monkeypatch.setenv("ENTROBENCH_SHARED_DATA", str(tmp_path / "real"))

    def make(recipe="dapo", settings=None, counts=None, **pin):
        path = tmp_path / "real" / "in.parquet"
        source = {"kind": "files", "files": {"train": pin_of(path) | pin}}
        fields = {"recipe": recipe, "settings": settings or {}, "counts": counts or {}}
        return Dataset(dataset="toy", title="toy", source=source, **fields)

    return make


# -- DAPO-Math-17K -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "out", "reasons"),
    [
        # 17,398 texts - 7 with several answers - 5 golds beyond 2^53
        ("text", 17398 - 7 - 5, {dapo.SAME_TEXT: 512, CONFLICT: 14}),
        # 17,917 rows - 14 of those texts - 5
        ("index", 17917 - 14 - 5, {CONFLICT: 14}),
    ],
)
def test_the_real_dapo_math_17k(real_data, tmp_path, key, out, reasons):
    config = CONFIGS.dataset("dapo_math_17k")
    config = config.model_copy(update={"settings": config.settings | {"dedup_key": key}})
    manifest = prepare_training_set(config, tmp_path / "train.parquet", PROMPT)
    assert (manifest["rows_in"], manifest["rows_out"]) == (17917, out)
    counts = manifest["counts"]
    assert (counts["unique_text"], counts["unique_index"], counts["conflicting_texts"]) == (17398, 17917, 7)
    assert len(manifest["conflicting_answers"]) == 7
    drops = {drop["reason"]: drop["rows"] for drop in manifest["dropped"]}
    (damaged,) = (drop for drop in manifest["dropped"] if drop["reason"] == dapo.FLOAT_DAMAGE)
    assert {index[:8] for index in damaged["ids"]} == {
        "31e18bbb", "378cda86", "8ed7f2e6", "b9f5417b", "c64dea2a"
    }  # fmt: skip
    assert drops == reasons | {dapo.FLOAT_DAMAGE: 5}
    rows = read_verl_parquet(tmp_path / "train.parquet")
    texts = [row.prompt[1].content for row in rows]
    assert (len(set(texts)) == out) == (key == "text")
    assert len({row.extra_info.index for row in rows}) == out
    assert not any("Remember to put your answer" in t or "step by step. The last line" in t for t in texts)
    assert rows[0].reward_model.ground_truth == "34"


def test_the_real_conflicts_can_be_kept(real_data):
    config = CONFIGS.dataset("dapo_math_17k")
    settings = {"dedup_key": "text", "conflicts": "keep"}
    selection, _ = select(config.model_copy(update={"settings": settings}))
    assert len(selection.rows) == 17398 - 5


def test_the_real_conflicts_in_other_spellings_are_listed_and_can_be_dropped(real_data):
    config = CONFIGS.dataset("dapo_math_17k")
    kept, _ = select(config)
    groups = kept.notes["normalised_conflicts"]
    # 20 pairs, 2 of three rows, 1 of four
    assert (len(groups), sum(map(len, groups))) == (23, 20 * 2 + 2 * 3 + 4)
    # Two problems, each with its right answer: the reason for keeping them
    minus, plus = next(group for group in groups if group[0]["index"].startswith("d1fe0dcd"))
    assert "x^8 - 98x^4 + 1" in minus["problem"]
    assert "x^8 + 98x^4 + 1" in plus["problem"]
    settings = config.settings | {"normalised_conflicts": "drop"}
    dropped, _ = select(config.model_copy(update={"settings": settings}))
    assert len(dropped.rows) == 17398 - 7 - 5 - 50


def test_duplicates_and_conflicts_are_dropped_and_listed(tmp_path, config):
    beyond, exact = str(-(2**53) - 1), str(2**53)
    problems = [("a", "1"), (" b", "2"), ("a", "3"), ("b", "2"), ("b", "2"), ("c", beyond), ("d", exact)]
    make_dapo(tmp_path / "real" / "in.parquet", problems)
    manifest = prepare_training_set(config(), tmp_path / "out" / "train.parquet", PROMPT)
    assert manifest["dropped"] == [
        {"reason": CONFLICT, "rows": 2, "ids": ["id-0", "id-2"]},
        {"reason": dapo.SAME_TEXT, "rows": 1, "ids": ["id-4"]},
        {"reason": dapo.FLOAT_DAMAGE, "rows": 1, "ids": ["id-5"]},
    ]
    assert manifest["conflicting_answers"] == [{"problem": "a", "rows": {"1": ["id-0"], "3": ["id-2"]}}]
    rows = read_verl_parquet(tmp_path / "out" / "train.parquet")
    kept = ["id-1", "id-3", "id-6"]
    assert [row.extra_info.index for row in rows] == kept, "' b' and 'b' are different texts"
    assert read_json(tmp_path / "out" / "manifest.json") == manifest
    kept, _ = select(config(settings={"conflicts": "keep"}))
    assert [row.index for row in kept.rows] == ["id-0", "id-1", "id-3", "id-6"]
    by_index, _ = select(config(settings={"conflicts": "keep", "dedup_key": "index"}))
    assert [row.index for row in by_index.rows] == [f"id-{n}" for n in (0, 1, 2, 3, 4, 6)]


def test_other_spellings_with_other_answers_are_kept_unless_told(tmp_path, config):
    problems = [("What is 7 + 8?", "15"), ("What is 7 - 8?", "-1"), ("What is 9?", "9"), ("what is 9", "9")]
    make_dapo(tmp_path / "real" / "in.parquet", problems)
    kept, _ = select(config())
    assert [row.index for row in kept.rows] == ["id-0", "id-1", "id-2", "id-3"]
    assert [[row["gold"] for row in group] for group in kept.notes["normalised_conflicts"]] == [["15", "-1"]]
    dropped, _ = select(config(settings={"normalised_conflicts": "drop"}))
    assert [row.index for row in dropped.rows] == ["id-2", "id-3"]
    assert dropped.dropped == {dapo.NORMALISED_CONFLICT: ["id-0", "id-1"]}
    assert dropped.notes == kept.notes


def test_the_hubs_repetitions_are_taken_once(tmp_path, config):
    once = [("a", "1"), ("b", "2"), ("a", "1")]
    make_dapo(tmp_path / "real" / "in.parquet", once * 100, ["x", "y", "z"] * 100)
    selection, _ = select(config(rows=300))
    assert [row.index for row in selection.rows] == ["x", "y"]
    assert selection.other_rows == {dapo.REPEATED: 297}
    make_dapo(tmp_path / "real" / "in.parquet", [("a", "1"), ("a", "2")], ["x", "x"])
    with pytest.raises(CorruptFile, match="row x: this index stands twice with different"):
        select(config())


def test_the_prompt_is_taken_off_exactly(tmp_path, config):
    # lstrip(PREFIX).rstrip(SUFFIX) would eat these, for all their characters stand in prefix or suffix
    problem = "Solve the problem:\n\n  last line of your answer:"
    make_dapo(tmp_path / "real" / "in.parquet", [(problem, "1")])
    assert select(config())[0].rows[0].problem == problem


def test_a_slice_is_recorded(tmp_path, config):
    make_dapo(tmp_path / "real" / "in.parquet", [(f"p{n}", "1") for n in range(9)])
    manifest = prepare_training_set(config(), tmp_path / "train.parquet", PROMPT, limit=4, seed=3)
    assert (manifest["slice"], manifest["rows_out"]) == ({"rows": 4, "seed": 3}, 4)


# -- bad input -----------------------------------------------------------------------------------------------


def change(path, edit):
    frame = pd.read_parquet(path)
    edit(frame).to_parquet(path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda f: f.drop(columns="reward_model"), r"missing column\(s\) \['reward_model'\]; expected"),
        (lambda f: f.assign(reward_model=[{"ground_truth": ""}] * len(f)), "row 0.*ground_truth"),
        (lambda f: f.assign(reward_model=[{"ground_truth": 27.0}] * len(f)), "row 0.*ground_truth.*27.0"),
        (lambda f: f.assign(extra_info=[{"index": 7}] * len(f)), "row 0.*index"),
        (lambda f: f.assign(extra_info="x"), "extra_info"),
        (
            lambda f: f.assign(prompt=[[{"content": "What is 1 + 1?", "role": "user"}]] * len(f)),
            "row id-0: expected one message with DAPO's prompt",
        ),
        (lambda f: f.assign(prompt=[[]] * len(f)), "expected one message|prompt"),
        (
            lambda f: f.assign(
                prompt=[[{"content": dapo.PREFIX + " " + dapo.SUFFIX, "role": "user"}]] * len(f)
            ),
            "row id-0, column prompt: expected a problem",
        ),
    ],
)
def test_a_source_with_another_schema_is_named_and_nothing_is_written(tmp_path, config, edit, message):
    path = make_dapo(tmp_path / "real" / "in.parquet", [("a", "1"), ("b", "2")])
    change(path, edit)
    with pytest.raises(CorruptFile, match=message) as error:
        prepare_training_set(config(), tmp_path / "out" / "train.parquet", PROMPT)
    assert "in.parquet" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_another_file_or_count_is_refused_and_the_old_result_stays(tmp_path, config):
    make_dapo(tmp_path / "real" / "in.parquet", [("a", "1")])
    pinned = config()
    prepare_training_set(pinned, tmp_path / "train.parquet", PROMPT)
    before = (tmp_path / "train.parquet").read_bytes()
    with pytest.raises(PinMismatch, match="expected 9 unique text, found 1"):
        prepare_training_set(config(counts={"unique_text": 9}), tmp_path / "train.parquet", PROMPT)
    with pytest.raises(PinMismatch, match="expected 9 rows, found 1"):
        prepare_training_set(config(rows=9), tmp_path / "train.parquet", PROMPT)
    make_dapo(tmp_path / "real" / "in.parquet", [("a", "2")])
    with pytest.raises(PinMismatch, match=r"in\.parquet has sha256"):
        prepare_training_set(pinned, tmp_path / "train.parquet", PROMPT)
    (tmp_path / "real" / "in.parquet").unlink()
    with pytest.raises(MissingInput, match="ENTROBENCH_SHARED_DATA"):
        prepare_training_set(pinned, tmp_path / "train.parquet", PROMPT)
    assert (tmp_path / "train.parquet").read_bytes() == before


def test_a_truncated_parquet_is_named(tmp_path, config):
    path = make_dapo(tmp_path / "real" / "in.parquet", [("a", "1")])
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CorruptFile, match=r"in\.parquet cannot be read as parquet"):
        select(config())


def test_unknown_settings_and_recipes_are_refused(tmp_path, config):
    make_dapo(tmp_path / "real" / "in.parquet", [("a", "1")])
    with pytest.raises(ConfigError, match="expected dedup_key text or index, found 'uuid'"):
        select(config(settings={"dedup_key": "uuid"}))
    with pytest.raises(ConfigError, match="expected normalised_conflicts keep or drop, found True"):
        select(config(settings={"normalised_conflicts": True}))
    with pytest.raises(ConfigError, match="recipe: expected one of"):
        select(config(recipe="dappo"))


def test_every_recipe_that_a_config_names_exists():
    for name in CONFIGS.names("datasets"):
        assert CONFIGS.dataset(name).recipe in ("dapo", "numina", "still3", "tool_n1", "")


# -- NuminaMath-1.5 ------------------------------------------------------------------------------------------

NUMINA = {
    "problem": "p",
    "answer": "27",
    "question_type": "math-word-problem",
    "problem_is_valid": "Yes",
    "solution_is_valid": "Yes",
    "source": "amc_aime",
}


def select_rows(tmp_path, rows, settings=None, exclude=()):
    pd.DataFrame(rows).to_parquet(tmp_path / "train.parquet")
    files = {"train_0": tmp_path / "train.parquet"}
    if exclude:
        pd.DataFrame({"problem": list(exclude)}).to_json(
            tmp_path / "aime.jsonl", orient="records", lines=True
        )
        files["exclude_aime"] = tmp_path / "aime.jsonl"
    return select_numina(files, settings or {})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"problem_is_valid": "Incomplete"}, "problem_is_valid is not Yes"),
        ({"problem_is_valid": None}, "problem_is_valid is not Yes"),
        ({"solution_is_valid": "Problem not solved"}, "solution_is_valid is not Yes"),
        ({"question_type": "MCQ"}, "question_type is not math-word-problem"),
        ({"problem": " \n"}, "the problem is blank"),
        ({"answer": "proof"}, "no answer: blank, proof or notfound"),
        ({"answer": "notfound"}, "no answer: blank, proof or notfound"),
        ({"answer": None}, "no answer: blank, proof or notfound"),
        ({"problem": "An AIME problem of $2024$."}, "a problem of an evaluation set"),
        ({"problem": "first"}, "same problem text as an earlier row"),
        ({"source": "olympiads"}, None),
    ],
)
def test_numina_drops_a_row_with_its_reason(tmp_path, change, reason):
    rows = [{**NUMINA, "problem": "first"}, {**NUMINA, **change}]
    selection = select_rows(tmp_path, rows, exclude=["an aime problem of 2024"])
    assert [row.index for row in selection.rows] == ["0"]
    assert selection.dropped == ({reason: ["1"]} if reason else {})
    assert selection.other_rows == {"source is not amc_aime": 0 if reason else 1}
    check_selection(selection, CONFIGS.dataset("appworld").model_copy(update={"counts": {}}), 2)


def test_numina_keeps_text_answers_unless_told_and_says_how_far_from_the_paper(tmp_path):
    rows = [
        {**NUMINA, "problem": f"p{n}", "answer": answer} for n, answer in enumerate(["27", "1/2", "1000"])
    ]
    selection = select_rows(tmp_path, rows, {"published_rows": 563})
    assert [row.gold for row in selection.rows] == ["27", "1/2", "1000"]
    assert selection.notes["published"]["difference"] == 3 - 563
    selection = select_rows(tmp_path, rows, {"integer_answers": True})
    assert [row.gold for row in selection.rows] == ["27"]
    assert selection.dropped == {"the answer is not an integer 0..999": ["1", "2"]}


def test_numina_with_a_flag_that_is_no_text_is_named(tmp_path):
    with pytest.raises(CorruptFile, match="row 0, column problem_is_valid"):
        select_rows(tmp_path, [{**NUMINA, "problem_is_valid": True}])


def test_the_real_rows_of_numina_have_this_schema(real_data, tmp_path):
    rows = read_jsonl(real_data / "numinamath_1_5" / "first2rows.partial.jsonl")
    selection = select_rows(tmp_path, rows, {"source": rows[0]["source"]})
    assert selection.rows_in == 2
    assert (
        len(selection.rows) + sum(map(len, selection.dropped.values())) + sum(selection.other_rows.values())
        == 2
    )


# -- STILL-3 -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gold", "text"),
    [(142.0, "142"), (0.5, "0.5"), ("025", "025"), (-3, "-3"), (" x ", "x"), (1e300, "1e+300")],
)
def test_golds_become_text(gold, text):
    assert gold_text(gold) == text


def make_still3(path, contents, golds):
    pd.DataFrame(
        {
            "prompt": [[{"role": "user", "content": content}] for content in contents],
            "reward_model": [{"ground_truth": gold, "style": "rule"} for gold in golds],
        }
    ).to_parquet(path)
    return {"train": path}


def test_still3_loses_its_marker_and_nothing_else(tmp_path):
    instruction = "\nPlease reason step by step, and put your final answer within \\boxed{}."
    # rstrip(MARKER) would eat "tan t >"
    texts = [f"solve tan t > | >{instruction}", f"a{instruction}", f"a{instruction}", f"b{instruction}"]
    files = make_still3(
        tmp_path / "t.parquet", [text + MARKER for text in texts[:3]] + texts[3:], ["1", "2", "2", "3"]
    )
    selection = select_still3(files, {})
    assert [row.problem for row in selection.rows] == ["solve tan t > | >", "a", "b"]
    assert selection.counts == {
        "unique_text": 3,
        "conflicting_texts": 0,
        "prompts_with_marker": 3,
        "prompts_with_instruction": 4,
    }
    assert selection.dropped == {"same problem text as an earlier row": ["2"]}


def test_still3_refuses_infinity_and_drops_conflicts(tmp_path):
    with pytest.raises(
        CorruptFile, match=r"row 0, column reward_model\.ground_truth: expected a number, found inf"
    ):
        select_still3(make_still3(tmp_path / "t.parquet", ["a"], [float("inf")]), {})
    selection = select_still3(make_still3(tmp_path / "t.parquet", ["a", "a", "b"], ["1", "2", "3"]), {})
    assert [row.problem for row in selection.rows] == ["b"]


def test_still3_keeps_the_first_of_a_conflict_only_when_told_and_refuses_a_misspelling(tmp_path):
    files = make_still3(tmp_path / "t.parquet", ["a", "b", "a", "a"], ["1", "9", "2", "1"])
    kept = select_still3(files, {"conflicts": "keep"})
    assert [(row.index, row.gold) for row in kept.rows] == [("0", "1"), ("1", "9")]
    # by gold: 1 stands in rows 0 and 3, 2 in row 2
    assert kept.dropped == {dapo.SAME_TEXT: ["3", "2"]}
    assert select_still3(files, {}).dropped == {CONFLICT: ["0", "3", "2"]}
    with pytest.raises(ConfigError, match="expected conflicts drop or keep, found 'Drop'"):
        select_still3(files, {"conflicts": "Drop"})


@pytest.mark.parametrize(("name", "rows", "texts"), [("amc", 83, 83), ("math", 500, 500), ("aime8", 240, 30)])
def test_the_familys_real_files_are_read(real_data, name, rows, texts):
    selection = select_still3({"train": real_data / "entropy2performance_eval" / f"{name}.parquet"}, {})
    assert (selection.rows_in, selection.counts["prompts_with_marker"], len(selection.rows)) == (
        rows,
        rows,
        texts,
    )
    for row in selection.rows:
        assert "Assistant" not in row.problem
        assert not row.gold.endswith(".0")
