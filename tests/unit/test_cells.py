"""Resolution of cells: layers, provenance, and the errors a user meets."""

from pathlib import Path

import pytest
import yaml

from entrobench.cells import CellId, listed_cells, read_cell, resolve, status_of, write_cell
from entrobench.configs import Configs
from entrobench.errors import ConfigError, CorruptFile, UnknownName
from entrobench.paths import repository_root

RESULTS = Path("results")


@pytest.fixture
def configs():
    return Configs(repository_root() / "configs")


@pytest.fixture
def editable(tmp_path, configs):
    """A copy of the configuration tree and a function that edits one file of it."""
    import shutil

    shutil.copytree(configs.root, tmp_path / "configs")

    def edit(name, change):
        path = tmp_path / "configs" / name
        content = yaml.safe_load(path.read_text())
        change(content)
        path.write_text(yaml.safe_dump(content))
        return Configs(tmp_path / "configs")

    return edit


def all_cells(configs):
    return [
        (scale, str(cell))
        for scale in configs.names("scales")
        for paper in configs.papers()
        for cell in listed_cells(paper, configs)
    ]


def test_every_listed_cell_resolves_at_every_scale(configs):
    cells = all_cells(configs)
    assert len(cells) >= 2 * 7
    for scale, cell in cells:
        resolved = resolve(cell, scale, configs, RESULTS)
        assert resolved["cell"] == cell
        is_control = "/control-" in cell
        has_none = scale in ("mini", "slice") or (is_control and scale in ("smoke", "study"))
        assert resolved["evaluation"] or has_none, (
            "these have benchmarks for mathematics only, and smoke none for a control"
        )
        if resolved["trains"]:
            assert set(resolved["verl"]) <= set(resolved["provenance"]), "a value without provenance"


def test_any_method_runs_on_any_experiment(configs):
    for method in configs.names("methods"):
        assert resolve(f"papo/14b-math/{method}/seed3", "paper", configs, RESULTS)["seed"] == 3


def test_paper_scale_is_what_the_paper_states(configs):
    # App. B.4: lr 1e-6, batch 128 x 8, 8192 tokens, clip 0.2 / 0.28, omega in [0.98, 1.03] (7B) and [0.98,
    # 1.02] (14B)
    cell = resolve("papo/7b-math/papo_polarity/seed0", "paper", configs, RESULTS)
    verl = cell["verl"]
    assert verl["actor_rollout_ref.actor.optim.lr"] == 1e-6
    assert (verl["data.train_batch_size"], verl["actor_rollout_ref.rollout.n"]) == (128, 8)
    assert verl["data.max_response_length"] == 8192
    assert verl["actor_rollout_ref.actor.clip_ratio_low"] == 0.2
    assert verl["actor_rollout_ref.actor.clip_ratio_high"] == 0.28
    assert cell["shaper"]["settings"] == {
        "omega_min": 0.98,
        "omega_max": 1.03,
        "beta_warm": 0.95,
        "beta_run": 0.9,
        "warmup_steps": 20,
        "gate_ratio": 0.3,
    }
    other = resolve("papo/14b-math/papo_polarity/seed0", "paper", configs, RESULTS)
    assert other["shaper"]["settings"]["omega_max"] == 1.02
    assert other["provenance"]["shaper.omega_max"]["source"] == "App. B.4"


def test_a_scale_changes_sizes_and_keeps_the_method(configs):
    paper, smoke = (
        resolve("papo/7b-math/papo_polarity/seed0", s, configs, RESULTS) for s in ("paper", "smoke")
    )
    assert smoke["shaper"] == paper["shaper"]
    for key in configs.method("papo_polarity").verl:
        assert smoke["verl"][key] == paper["verl"][key]
    assert smoke["model"]["name"] == "smoke_tiny"
    assert smoke["provenance"]["actor_rollout_ref.actor.optim.lr"]["layer"] == "scale"


def test_evaluated_milestones_stand_in_the_cell_where_there_are_some(configs, editable):
    name = "papo/7b-math/dapo/seed0"
    plain = resolve(name, "smoke", configs, RESULTS)
    assert "evaluated_milestones" not in plain

    def change(protocol):
        protocol["experiments"]["7b-math"] |= {"milestones": [5, 12], "evaluated_milestones": [12, 5, 400]}

    # 32 steps at this scale; the paper's 400th is not reached
    found = resolve(name, "smoke", editable("papers/papo/protocol.yaml", change), RESULTS)
    assert found == plain | {"milestones": [5, 12], "evaluated_milestones": [5, 12]}


def test_milestones_are_as_far_along_in_a_shorter_run_of_a_scale_that_asks_for_it(configs):
    name = "exchange/7b/exchange_grpo/seed0"
    found = resolve(name, "study", configs, RESULTS)  # 64 steps for 1000
    assert found["milestones"] == found["evaluated_milestones"] == [6, 13, 26, 38, 51]
    assert resolve(name, "smoke", configs, RESULTS)["milestones"] == [100, 200, 400, 600, 800]
    # Where the training set has a length of its own: 16 steps for 100
    errands = resolve("repo/appworld-8b/loop/seed0", "study", configs, RESULTS)
    assert errands["milestones"] == [4, 8, 12]


@pytest.mark.parametrize(("keep", "lost"), [(2, "8, 12"), (None, "12")])
def test_a_milestone_that_training_does_not_keep_is_refused(editable, keep, lost):
    # Saved every 8 steps: with a number to keep only milestones are sure to stay, without one every eighth
    def keep_so_many(scale):
        scale["verl"]["trainer.max_actor_ckpt_to_keep"] = {"value": keep}

    def change(protocol):
        protocol["experiments"]["7b-math"] |= {"milestones": [5], "evaluated_milestones": [5, 8, 12]}

    editable("scales/smoke.yaml", keep_so_many)
    configs = editable("papers/papo/protocol.yaml", change)
    with pytest.raises(
        ConfigError, match=rf"7b-math: evaluated_milestones has {lost}, whose.*\n.*milestones"
    ):
        resolve("papo/7b-math/dapo/seed0", "smoke", configs, RESULTS)


def test_a_scale_sets_how_the_rows_that_are_made_here_are_asked_and_no_others(editable, configs):
    prompt = configs.scale("smoke").evaluation["prompt"]
    for name in ("papo/7b-math/dapo/seed0", "opefo/math-7b/opefo/seed0", "repo/aime-8b/repo_r/seed0"):
        cell = resolve(name, "smoke", configs, RESULTS)
        asked = [cell["dataset"]["prompt"], *(entry["prompt"] for entry in cell["evaluation"].values())]
        assert asked == [prompt] * len(asked)
        assert cell["provenance"]["dataset.prompt"]["layer"] == "scale"
    changed = editable("scales/mini.yaml", lambda scale: scale["evaluation"].update(prompt=prompt))
    with pytest.raises(ConfigError, match=r"scale mini: evaluation\.prompt: the training set dapo_math_17k"):
        resolve("papo/7b-math/dapo/seed0", "mini", changed, RESULTS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda of: of["mmlu_pro_greedy"].update(n_samples={"value": 8}),
            "evaluation of mmlu_pro_greedy: 8 samples a problem at temperature 0 are one",
        ),
        (
            lambda of: of["cruxeval"].update(prompt={"value": {"pined": "zeroeval_crux"}}),
            r"(?s)evaluation of cruxeval: prompt.*pined: no such key\. Did you mean pinned",
        ),
        (
            lambda of: of["ifeval"].update(prompt={"value": {"lm_eval": "ifeval", "pinned": "x"}}),
            "expected one of messages, lm_eval",
        ),
        (
            lambda of: of["ifeval"].update(
                prompt={"value": {"messages": [{"role": "boss", "content": "x"}]}}
            ),
            r"(?s)evaluation of ifeval: prompt.*'boss'",
        ),
    ],
)
def test_an_evaluation_that_cannot_be_is_refused_when_the_cell_resolves(editable, change, message):
    edited = editable("papers/papo/protocol.yaml", lambda protocol: change(protocol["evaluation_of"]))
    with pytest.raises(ConfigError, match=message):
        resolve("papo/7b-math/base/seed0", "paper", edited, RESULTS)


def test_a_cell_without_a_prompt_is_refused(editable):
    edited = editable("papers/opefo/protocol.yaml", lambda protocol: protocol["evaluation"].pop("prompt"))
    with pytest.raises(ConfigError, match="evaluation of aime24: expected a prompt, found none"):
        resolve("opefo/math-7b/base/seed0", "paper", edited, RESULTS)


def test_a_training_set_that_a_paper_does_not_ask_is_refused(editable):
    edited = editable("papers/opefo/protocol.yaml", lambda protocol: protocol["prompt_of"].clear())
    with pytest.raises(ConfigError, match="prompt_of: expected how dapo_math_17k is asked, found nothing"):
        resolve("opefo/math-7b/opefo/seed0", "paper", edited, RESULTS)


def test_each_benchmarks_settings_have_their_own_provenance(configs):
    provenance = resolve("opefo/math-7b/base/seed0", "paper", configs, RESULTS)["provenance"]
    # Section 6.1: Avg@32 on AIME and AMC, Avg@1 on the others
    assert provenance["evaluation.aime24.n_samples"]["value"] == 32
    found = provenance["evaluation.math500.n_samples"]
    assert (found["value"], found["layer"]) == (1, "protocol for math500")
    assert provenance["evaluation.math500.max_model_len"]["layer"] == "experiment"


def test_a_scale_that_sets_a_methods_key_is_refused(editable):
    def change(scale):
        scale["verl"]["actor_rollout_ref.actor.clip_ratio_high"] = {"value": 0.5}

    with pytest.raises(ConfigError, match=r"clip_ratio_high.*method dapo"):
        resolve("papo/7b-math/dapo/seed0", "smoke", editable("scales/smoke.yaml", change), RESULTS)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("papo/7b-math/papo_polar/seed0", "Did you mean papo_polarity"),
        ("papo/7b-maths/dapo/seed0", "Did you mean 7b-math"),
        ("pap/7b-math/dapo/seed0", "Did you mean papo"),
        ("papo/7b-math/dapo/0", "expected <paper>/<experiment>/<method>/seed<k>"),
    ],
)
def test_an_unknown_cell_names_the_nearest(configs, name, hint):
    with pytest.raises(UnknownName, match=hint):
        CellId.parse(name, configs)


def test_an_unknown_scale_names_the_nearest(configs):
    with pytest.raises(UnknownName, match="Did you mean smoke"):
        resolve("papo/7b-math/dapo/seed0", "smke", configs, RESULTS)


def test_an_unknown_key_in_a_config_file_names_file_and_nearest(editable):
    configs = editable("scales/smoke.yaml", lambda scale: scale.update(modles={}))
    with pytest.raises(ConfigError, match=r"(?s)smoke.yaml.*modles: no such key. Did you mean models"):
        configs.scale("smoke")


def test_a_config_value_of_the_wrong_type_names_key_and_value(editable):
    configs = editable("scales/smoke.yaml", lambda scale: scale["guard"].update(stall="soon"))
    with pytest.raises(ConfigError, match=r"(?s)smoke.yaml.*guard.stall.*'soon'"):
        configs.scale("smoke")


def test_cell_yaml_is_rewritten_only_when_its_content_changes(tmp_path, configs, monkeypatch):
    path = tmp_path / "cell.yaml"
    resolved = resolve("papo/7b-math/dapo/seed0", "smoke", configs, RESULTS)
    monkeypatch.setattr("entrobench.cells.git_commit", lambda root: "first")
    write_cell(resolved, path, tmp_path)
    first = path.read_bytes()
    monkeypatch.setattr("entrobench.cells.git_commit", lambda root: "second")
    write_cell(resolved, path, tmp_path)
    assert path.read_bytes() == first
    write_cell({**resolved, "seed": 9}, path, tmp_path)
    assert read_cell(path)["git_commit"] == "second"


def test_a_damaged_cell_yaml_is_named(tmp_path):
    path = tmp_path / "cell.yaml"
    path.write_text("cell: [")
    with pytest.raises(CorruptFile, match=r"cell\.yaml"):
        read_cell(path)


def test_status(tmp_path):
    assert status_of(tmp_path, trains=True) == "not run"
    (tmp_path / "checkpoints").mkdir()
    assert status_of(tmp_path, trains=True) == "partial"
    for name in ("train.done.json", "eval.done.json", "scores.csv"):
        (tmp_path / name).touch()
    assert status_of(tmp_path, trains=True) == "done"
