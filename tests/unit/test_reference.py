"""The reference run's tables: envelopes and their false alarms, the head-to-head, predictions, the bundle."""

import json
import re
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from entrobench.cells import listed_cells, previous_cell, resolve
from entrobench.cli.app import app
from entrobench.configs import Configs
from entrobench.errors import ConfigError, MissingInput
from entrobench.evaluation.graded import keep_graded
from entrobench.evaluation.places import evaluated_steps
from entrobench.evaluation.samples import Sample, read_samples, write_samples
from entrobench.files import read_parquet, write_json, write_jsonl, write_parquet
from entrobench.paths import repository_root
from entrobench.reference import head_to_head
from entrobench.reference.bundle import KEY, LEFT_OUT, Bundle, default_folder, missing
from entrobench.reference.check import check
from entrobench.reference.envelopes import ALARMS, BLOCK, Envelopes, blocks_of, left_out, values_of
from entrobench.reference.figures import entropy_figure
from entrobench.reference.plan import Group, Reference, cells_of, load_reference, shows_interventions
from entrobench.reference.prediction import FORMULAS, PREMISE, predictions, summary
from entrobench.reference.render import (
    BEGIN,
    END,
    _about,
    _artifact_on_page,
    _predictions,
    _render_group,
    write_into_readme,
)
from entrobench.reference.run import AT_ONCE, in_parts, run_reference, without_same
from entrobench.reference.unpack import unpack
from entrobench.report.artifacts import load_artifacts
from entrobench.report.build import build_report
from entrobench.report.claims import load_claims
from entrobench.report.states import ArtifactState

CONFIGS = Configs(repository_root() / "configs")
STEPS = 64
EXPERIMENT = "papo/7b-math"
MINI_BATCH = "actor_rollout_ref.actor.ppo_mini_batch_size"


def synthetic_curve(rng, level, slope=-0.003, noise=0.02, steps=STEPS):
    """Entropy that falls from `level`, reward that rises; a run has an offset of its own."""
    step = np.arange(1, steps + 1)
    offset = rng.normal(0, 0.01)
    return pd.DataFrame(
        {
            "step": step,
            "entropy": level + offset + slope * step + rng.normal(0, noise, steps),
            "reward": 0.3 + 0.005 * step + rng.normal(0, 0.05, steps),
            "response_length": 20 + rng.normal(0, 1, steps),
            "grad_norm": np.exp(rng.normal(0, 0.3, steps)),
        }
    )


def synthetic_curves(methods, seeds=3, seed=0):
    rng = np.random.default_rng(seed)
    return pd.concat(
        [
            synthetic_curve(rng, 0.4 + 0.02 * number).assign(method=f"m{number}", seed=which)
            for number in range(methods)
            for which in range(seeds)
        ],
        ignore_index=True,
    )


def test_the_list_has_every_method_that_trains():
    reference = load_reference(CONFIGS)
    trained = [name for name in CONFIGS.names("methods") if CONFIGS.method(name).trains]
    assert sorted(reference.group("head_to_head").methods) == trained
    assert [group.name for group in reference.comparisons()] == ["head_to_head", "on_policy"]
    for group in reference.comparisons():
        assert group.baseline in group.methods
        cells = list(cells_of(group, reference, CONFIGS))
        assert len(set(cells)) == len(group.methods) * len(group.seeds)
    off_policy = resolve("papo/7b-math-eight-updates/grpo/seed0", "smoke", CONFIGS, Path("r"))["verl"]
    assert (
        off_policy["data.train_batch_size"] == 8 * off_policy["actor_rollout_ref.actor.ppo_mini_batch_size"]
    )
    on_policy = resolve("papo/7b-math-eight-updates/opefo/seed0", "smoke", CONFIGS, Path("r"))["verl"]
    assert on_policy[MINI_BATCH] == 8, "a method's own settings stay"


def test_false_alarms_of_runs_of_other_methods_are_as_rare_as_stated():
    """The limit is taken from half of the methods, the alarms from the other half."""
    curves = synthetic_curves(60)
    values = values_of(curves)
    halves = [values.loc[:, [int(name[1:]) % 2 == half for name, _ in values.columns]] for half in (0, 1)]
    envelopes = Envelopes.of(curves[curves["method"].str[1:].astype(int) % 2 == 0])
    alarms = [z > envelopes.limit for _, _, z in left_out(halves[1], envelopes.pooled)]
    assert len(alarms) == 90
    assert np.mean(alarms) <= 3 * ALARMS, "a binomial of 90 runs at 5 % is above 15 % once in 10,000"
    assert 0.03 < envelopes.alarms <= ALARMS


def test_a_run_leaves_its_envelope_where_it_differs_and_says_at_which_steps():
    envelopes = Envelopes.of(synthetic_curves(20))
    rng = np.random.default_rng(9)
    assert envelopes.departures("m3", synthetic_curve(rng, 0.46)) == []
    collapsing = synthetic_curve(rng, 0.46)
    collapsing.loc[collapsing["step"] > 40, "entropy"] -= 0.2
    found = envelopes.departures("m3", collapsing)
    assert {each.metric for each in found} == {"entropy"}
    assert [each.first_step for each in found] == [41, 49, 57]
    assert "entropy" in str(found[0])
    assert "steps 41 to 48" in str(found[0])
    assert envelopes.departures("m3", collapsing[collapsing["step"] <= 40]) == [], (
        "not reached, not asked for"
    )


def with_coefficient(curve, rng, sign):
    """An omega_neg that answers to the entropy's change over four steps; its level says nothing."""
    change = curve["entropy"].diff(4).fillna(0) + rng.normal(0, 0.01, len(curve))
    return curve.assign(omega_neg=(1 + rng.normal(0, 0.05) + sign * change).where(curve["step"] > 10, 1.0))


def test_a_coefficient_that_answers_to_the_entropy_the_wrong_way_leaves_the_envelope():
    rng = np.random.default_rng(4)
    curves = pd.concat(
        with_coefficient(synthetic_curve(rng, 0.4), rng, 1).assign(method=f"m{number}", seed=seed)
        for number in range(8)
        for seed in range(3)
    )
    envelopes = Envelopes.of(curves)

    def answers(sign):
        curve = with_coefficient(synthetic_curve(rng, 0.4), rng, sign)
        return [each for each in envelopes.departures("m1", curve) if each.metric.startswith("omega_neg ")]

    assert answers(1) == []
    found = answers(-1)
    assert [(each.first_step, each.last_step) for each in found] == [(1, 32), (33, 64)]
    assert all(each.value < 0 < each.low for each in found)


def real_departures(run):
    """Of a run of PAPO in the bundle's `checked`, which no envelope has seen."""
    bundle = Bundle(default_folder())
    envelopes = Envelopes.of(bundle.of("curves", "papo/7b-math-eight-updates"))
    return envelopes.departures("papo_polarity", pd.read_csv(bundle.folder / "checked" / f"{run}.csv"))


def test_a_real_run_of_a_fresh_seed_is_inside_and_broken_ones_are_not():
    assert real_departures("fresh_seed") == []
    assert real_departures("learning_rate_x10")[0].metric == "entropy"
    assert "omega_neg against entropy" in {each.metric for each in real_departures("omega_flipped")}


def test_blocks_are_whole():
    curve = synthetic_curve(np.random.default_rng(0), 0.5, steps=2 * BLOCK + 3)
    assert sorted(set(blocks_of(curve).index.get_level_values("block"))) == [0, 1]


def test_envelopes_want_three_seeds():
    assert Envelopes.of(synthetic_curves(3, seeds=2)) is None
    assert Envelopes.of(synthetic_curves(3).iloc[:0]) is None


def synthetic_outcomes(chances, seeds=3, problems=40, samples=8, benchmarks=("easy", "hard", "other")):
    rng = np.random.default_rng(1)
    rows = []
    for method, chance in chances.items():
        for seed in range(seeds):
            for benchmark in benchmarks:
                for problem in range(problems):
                    correct = rng.random(samples) < np.clip(chance + 0.1 * (problem % 3 - 1), 0, 1)
                    rows += [
                        {
                            "method": method, "seed": seed, "benchmark": benchmark, "problem": f"p{problem}",
                            "sample": number, "correct": is_right,
                            "answer": "1" if is_right else f"x{number}",
                        }
                        for number, is_right in enumerate(correct)
                    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_the_head_to_head_ranks_what_can_be_told_apart():
    outcomes = synthetic_outcomes({"grpo": 0.5, "twin": 0.5, "better": 0.7, "worse": 0.3})
    rng = np.random.default_rng(2)
    curves = pd.concat(
        [
            synthetic_curve(rng, 0.5).assign(method=m, seed=s)
            for m in outcomes["method"].unique()
            for s in range(3)
        ]
    )
    runs = outcomes[["method", "seed"]].drop_duplicates().assign(tokens_generated=2e6, seconds=100.0)
    table = head_to_head.table(outcomes, curves, runs, ["easy", "hard"], "grpo").set_index("method")
    assert table.index[0] == "better"
    assert (table.loc["better", ["rank_low", "rank_high"]] == [1, 1]).all()
    assert (table.loc[["grpo", "twin"], "rank_low"] == 2).all()
    assert (table.loc[["grpo", "twin"], "rank_high"] == 3).all(), "what cannot be separated shares a rank"
    assert (table.loc["worse", ["rank_low", "rank_high"]] == [4, 4]).all()
    assert table.loc["better", "p"] < 0.05 < table.loc["twin", "p"]
    assert np.isnan(table.loc["grpo", "p"])
    assert table.loc["better", "difference"] == pytest.approx(0.2, abs=0.04)
    inside = outcomes[(outcomes["method"] == "grpo") & (outcomes["benchmark"] != "other")]
    counts = inside.groupby(["seed", "benchmark", "problem"])["correct"].sum()
    assert table.loc["grpo", "score"] == pytest.approx(counts.mean() / 8)
    assert table.loc["grpo", "pass_gap"] == pytest.approx((counts > 0).mean() - counts.mean() / 8)
    wrong = 8 - counts
    assert table.loc["grpo", "distinct"] == pytest.approx((wrong + (counts > 0)).mean())
    assert table.loc["grpo", "tokens"] == 2.0


def test_methods_far_from_the_baseline_have_a_panel_of_their_own():
    levels = {"grpo": 0.5, "dapo": 0.55, "repo_r": 0.45, "positive_polarity": 2.0, "opefo": 0.9}
    rng = np.random.default_rng(5)
    curves = pd.concat(
        synthetic_curve(rng, level, slope=0).assign(method=method, seed=seed)
        for method, level in levels.items()
        for seed in range(3)
    )
    table = pd.DataFrame({"method": levels.keys(), "entropy_last": levels.values()})
    axes = [ax for ax in entropy_figure(table, curves, "grpo", CONFIGS).axes if ax.axison]
    shown = {ax.get_title(): {text.get_text() for text in ax.get_legend().get_texts()} for ax in axes}
    assert shown == {
        "papo": {"GRPO", "DAPO"},
        "repo": {"GRPO", "REPO-R"},
        "far from GRPO": {"GRPO", "GRPO, positive polarity only", "OPEFO"},
    }
    papo, repo, far = axes
    assert papo.get_ylim() == repo.get_ylim() != far.get_ylim()
    assert [ax.get_yscale() for ax in axes] == ["linear", "linear", "log"]
    only = table[table["method"] == "grpo"]
    (ax,) = entropy_figure(only, curves, "grpo", CONFIGS).axes
    assert len(ax.get_legend().get_texts()) == 1


def synthetic_tokens(factor=0.01, noise=0.0, steps=3, tokens=200):
    """Tokens, of responses of ten, whose entropy changes as OPEFO's formula says."""
    rng = np.random.default_rng(3)
    number = np.arange(tokens)
    place = {"sequence": number // 10, "group": number // 40, "position": number % 10, "length": 10}
    kind = {"token": number % 7, "text": "x", "correct": number // 10 % 2 == 0, "sum_p2": 0.5, "clipped": 0}
    frames = []
    for step in range(1, steps + 1):
        logp = np.log(rng.uniform(0.05, 0.95, tokens))
        frame = pd.DataFrame({"step": step, "logp": logp, "entropy": rng.uniform(0.1, 1.5, tokens)})
        frame["advantage"] = frame["shaped_advantage"] = rng.choice([-1.0, 1.0], tokens)
        frame["t1"] = np.exp(logp) * (logp + frame["entropy"])
        frame["t2"] = rng.normal(0, 0.1, tokens)
        change = factor * FORMULAS["OPEFO"](frame) + noise * rng.normal(size=tokens)
        frame["logp_after"] = frame["logp"] + factor * frame["shaped_advantage"]
        frames.append(frame.assign(entropy_after=frame["entropy"] + change, **place, **kind))
    return pd.concat(frames, ignore_index=True)


def test_predictions_know_the_formula_that_the_change_follows():
    frame = predictions(synthetic_tokens())
    assert list(frame["formula"].unique()) == [*FORMULAS, PREMISE]
    assert len(frame) == 3 * (len(FORMULAS) + 1)
    for name in ("OPEFO", PREMISE):
        right = frame[frame["formula"] == name]
        assert right["pearson"].to_numpy() == pytest.approx(1.0)
        assert right["slope"].to_numpy() == pytest.approx(0.01)
        assert right["sign"].to_numpy() == pytest.approx(1.0)
    assert (frame[~frame["formula"].isin(["OPEFO", PREMISE])]["pearson"] < 0.99).all()
    opefo = summary(frame.assign(method="m", seed=0)).set_index("formula").loc["OPEFO"]
    assert opefo["pearson"] == pytest.approx(1.0)
    assert opefo["spearman"] == pytest.approx(1.0)
    assert opefo["steps"] == 3


def test_the_sign_is_that_of_tokens_that_a_formula_says_something_of():
    tokens = synthetic_tokens(steps=1)
    silent = tokens.assign(shaped_advantage=0.0)
    frame = predictions(pd.concat([tokens, silent], ignore_index=True)).set_index("formula")
    assert frame.loc["OPEFO", "tokens"] == 400
    assert frame.loc["OPEFO", "sign"] == 1.0
    assert frame.loc["OPEFO", "pearson"] < 0.9


def test_predictions_of_a_step_without_an_advantage_are_empty():
    tokens = synthetic_tokens(steps=1).assign(shaped_advantage=0.0)
    frame = predictions(tokens)
    assert frame["spearman"].isna().all()
    assert (frame["tokens"] == 200).all()


def test_what_goes_on_from_a_cell_comes_after_it_and_has_it_run_again_where_it_is_gone(tmp_path):
    group = Group(name="repo", title="repo", paper="repo", seeds=[0])
    reference = Reference(scale="study", groups=[group])
    cells = list(cells_of(group, reference, CONFIGS))
    later = [cell for cell in cells if previous_cell(cell, CONFIGS)]
    assert len(later) >= 6
    assert cells[-len(later) :] == later
    earlier = {previous_cell(cell, CONFIGS) for cell in later}
    assert earlier <= set(without_same(cells, reference, CONFIGS, Bundle(tmp_path))), "none is run twice"
    parts = list(in_parts(later, reference, CONFIGS, tmp_path))
    place = {cell: number for number, part in enumerate(parts) for cell in part}
    assert set(place) == {*later, *(previous_cell(cell, CONFIGS) for cell in later)}
    assert all(place[previous_cell(cell, CONFIGS)] < place[cell] for cell in later)
    assert max(map(len, parts)) == 4
    assert len([cell for part in parts for cell in part]) == len(place), "each once"
    for cell in later:
        start = Path(resolve(str(cell), "study", CONFIGS, tmp_path)["model"]["path"])
        start.mkdir(parents=True, exist_ok=True)
    there = [cell for part in in_parts(later, reference, CONFIGS, tmp_path) for cell in part]
    assert there == later


def test_a_run_leaves_to_another_what_that_works_at_has_added_or_others_go_on_from(tmp_path, monkeypatch):
    group = Group(name="repo", title="repo", paper="repo", seeds=[0])
    reference = Reference(scale="study", groups=[group])
    bundle = Bundle(tmp_path / "bundle")
    cells = without_same(list(cells_of(group, reference, CONFIGS)), reference, CONFIGS, bundle)
    earlier = {cell: previous_cell(cell, CONFIGS) for cell in cells}
    held = next(cell for cell in cells if cell in earlier.values())
    added = next(cell for cell in cells[AT_ONCE:] if earlier[cell] is None and cell not in earlier.values())
    waiting = {cell for cell in cells if earlier[cell] == held}
    mine = set(cells) - waiting - {held, added}
    done = []

    def make_models(cells, *_):
        for cell in cells:
            if earlier[cell] is None:
                start = resolve(str(cell), "study", CONFIGS, tmp_path / "work")["model"]["path"]
                Path(start).mkdir(parents=True, exist_ok=True)

    def run_part(part, *_):
        for cell in part:
            for model in ("best", "model"):
                (tmp_path / "work/study" / str(cell) / model).mkdir(parents=True, exist_ok=True)
        # The other run adds a cell before this one comes to it, and late the one that it held
        others = [] if done else [added]
        if len(done) + len(part) == len(mine):
            others.append(held)
        curve = synthetic_curve(np.random.default_rng(0), 0.5)
        bundle.add([write_run(tmp_path / "results", str(cell), curve) for cell in others], CONFIGS)
        done.extend(part)
        return []

    monkeypatch.setattr("entrobench.reference.run.prepare", make_models)
    monkeypatch.setattr("entrobench.reference.run._run_part", run_part)
    with bundle.claim([held]) as claimed:
        assert claimed == [held]
        left = run_reference(reference, [group], CONFIGS, bundle, tmp_path / "work")
    assert waiting
    assert set(left) == waiting
    assert set(done) == mine


def test_cells_of_which_a_figure_shows_replaced_tokens():
    cells = [cell for paper in CONFIGS.papers() for cell in listed_cells(paper, CONFIGS)]
    showing = [cell for cell in cells if shows_interventions(cell, "study", CONFIGS)]
    assert [str(cell) for cell in showing] == ["exchange/7b/exchange_grpo/seed0"]


def test_what_figures_and_claims_show_of_a_curve_is_kept():
    assert len(CONFIGS.papers()) == 4
    for paper in CONFIGS.papers():
        panels = [
            panel for figure in load_artifacts(paper, CONFIGS).figures.values() for panel in figure.drawn
        ]
        shown = [name for panel in panels if panel.kind == "curves" for name in panel.of]
        claims = load_claims(paper, CONFIGS).values()
        shown += [name for claim in claims for name in (claim.curve, claim.than) if name]
        assert "entropy" in shown
        assert [name for name in shown if name.startswith(LEFT_OUT)] == []


def write_run(root, name, curve, is_finished=True):
    """A finished and scored run as training and evaluation leave it; without a curve an untrained one."""
    folder = root / "smoke" / name
    cell = resolve(name, "smoke", CONFIGS, root)
    folder.mkdir(parents=True)
    (folder / "cell.yaml").write_text(yaml.safe_dump(cell), encoding="utf-8")
    if curve is None:
        return write_evaluation(folder, cell)
    full = curve.assign(
        **{"perf/total_num_tokens": 100.0, "sampling/prompts_generated": 8.0, "actor/pg_loss": 0.1}
    )
    write_jsonl(folder / "metrics.jsonl", full.to_dict("records"))
    if not is_finished:
        return folder
    write_parquet(folder / "metrics.parquet", full)
    write_parquet(folder / "token_stats.parquet", synthetic_tokens())
    manifest = {
        "config_sha256": "c",
        "model": {"sha256": "m"},
        "runs": {"train": {"code": {"commit": "abc"}}},
    }
    write_json(folder / "manifest.json", manifest)
    done = {"steps": len(curve), "seconds": 10.0, "lives": [{"start": "2026"}], "versions": {"verl": "0.9.1"}}
    write_json(folder / "train.done.json", done)
    return write_evaluation(folder, cell)


def write_evaluation(folder, cell):
    entry = {"grader": "g", "engine": {"backend": "vllm"}}
    write_json(folder / "eval.done.json", {"benchmarks": dict.fromkeys(cell["evaluation"], entry)})
    for benchmark in cell["evaluation"]:
        path = folder / "eval" / benchmark / "samples.jsonl"
        path.parent.mkdir(parents=True)
        samples = [
            Sample(
                benchmark=benchmark, problem_id=f"p{problem}", sample=number, prompt_sha256="0" * 64,
                completion="x", extracted=str(number), verdict="correct" if number else "incorrect",
                second_verdict=None, gold="1", n_tokens=1, finish_reason="stop",
            )
            for problem in range(3)
            for number in range(2)
        ]  # fmt: skip
        write_samples(path, samples)
        list(keep_graded(path, samples))
    return folder


def test_a_bundle_keeps_what_is_added_once(tmp_path):
    bundle = Bundle(tmp_path / "bundle")
    curve = synthetic_curve(np.random.default_rng(0), 0.5)
    names = [f"{EXPERIMENT}/{method}/seed0" for method in ("grpo", "dapo")]
    first, second = (write_run(tmp_path / "results", name, curve) for name in names)
    bundle.add([first], CONFIGS)
    bundle.add([], CONFIGS)
    # An addition that was killed before runs.csv leaves rows, which the next one replaces
    runs = (tmp_path / "bundle" / "runs.csv").read_bytes()
    bundle.add([second], CONFIGS)
    (tmp_path / "bundle" / "runs.csv").write_bytes(runs)
    bundle.add([second], CONFIGS)
    assert bundle.cells() == set(names)
    curves = bundle.of("curves", EXPERIMENT)
    assert len(curves) == 2 * STEPS
    assert "actor/pg_loss" not in curves, "verl's bookkeeping is left out"
    outcomes = bundle.of("outcomes", EXPERIMENT)
    assert outcomes.groupby(["method", "benchmark"], observed=True).size().eq(6).all()
    assert outcomes["correct"].mean() == 0.5
    assert bundle.of("runs", EXPERIMENT)["tokens_trained"].tolist() == [6400, 6400]
    assert json.loads(bundle.of("records", EXPERIMENT)["manifest.json"].iloc[0])["config_sha256"] == "c"
    group = Group(
        name="g", title="g", experiment=EXPERIMENT, methods=["grpo", "dapo"], seeds=[0, 1], baseline="grpo"
    )
    reference = Reference(scale="study", groups=[group])
    assert [str(cell) for cell in missing(cells_of(group, reference, CONFIGS), bundle)] == [
        f"{EXPERIMENT}/{method}/seed1" for method in ("grpo", "dapo")
    ]


@pytest.fixture
def reference_with_envelopes(tmp_path):
    """A bundle of three methods with three seeds, and the reference that it is of."""
    bundle = Bundle(tmp_path / "bundle")
    rng = np.random.default_rng(0)
    methods = load_reference(CONFIGS).group("head_to_head").methods[:12]
    runs = [
        synthetic_curve(rng, 0.5).assign(paper="papo", experiment="7b-math", method=method, seed=seed)
        for method in methods
        for seed in range(3)
    ]
    frame = pd.concat(runs)
    for method, curves in frame.groupby("method"):
        write_parquet(bundle.folder / f"cells/{EXPERIMENT}/{method}.curves.parquet", curves)
    cells = frame[KEY].drop_duplicates()
    cells.assign(cell=cells.astype(str).agg("/".join, axis=1), same_as="").to_csv(
        bundle.folder / "runs.csv", index=False
    )
    group = Group(
        name="g", title="g", experiment=EXPERIMENT, methods=methods, seeds=[0, 1, 2], baseline="grpo"
    )
    return Reference(scale="study", groups=[group]), bundle


def test_check_says_which_run_leaves_what_and_where(tmp_path, reference_with_envelopes):
    reference, bundle = reference_with_envelopes
    rng = np.random.default_rng(5)
    results = tmp_path / "mine"
    with pytest.raises(MissingInput, match="no run of papo/7b-math to check"):
        check(results, reference, bundle, CONFIGS)
    write_run(results, f"{EXPERIMENT}/dapo/seed7", synthetic_curve(rng, 0.5), is_finished=False)
    write_run(results, f"{EXPERIMENT}/grpo/seed0", synthetic_curve(rng, 0.5, slope=-0.008), is_finished=False)
    write_run(results, f"{EXPERIMENT}/rloo/seed0", synthetic_curve(rng, 0.5), is_finished=False)
    checked, chance = check(results, reference, bundle, CONFIGS)
    by_cell = {each.cell: each for each in checked}
    assert by_cell[f"{EXPERIMENT}/dapo/seed7"].departures == []
    assert "inside, 64 steps" in str(by_cell[f"{EXPERIMENT}/dapo/seed7"])
    broken = by_cell[f"{EXPERIMENT}/grpo/seed0"]
    assert "entropy" in {each.metric for each in broken.departures}
    assert "OUTSIDE" in str(broken)
    assert by_cell[f"{EXPERIMENT}/rloo/seed0"].departures is None
    assert "%" in chance


def test_the_verb_fails_where_a_run_leaves_its_envelope(tmp_path, reference_with_envelopes, monkeypatch):
    reference, bundle = reference_with_envelopes
    monkeypatch.setattr("entrobench.reference.plan.load_reference", lambda configs: reference)
    monkeypatch.setattr("entrobench.reference.bundle.default_folder", lambda: bundle.folder)
    rng = np.random.default_rng(5)
    results = tmp_path / "mine"
    write_run(results, f"{EXPERIMENT}/dapo/seed7", synthetic_curve(rng, 0.5), is_finished=False)
    good = CliRunner().invoke(app, ["check", str(results)])
    assert good.exit_code == 0, good.output
    write_run(results, f"{EXPERIMENT}/dapo/seed8", synthetic_curve(rng, 0.9), is_finished=False)
    bad = CliRunner().invoke(app, ["check", str(results)])
    assert bad.exit_code == 1
    assert "1 of 2 runs leave their envelope" in bad.output


def test_predictions_of_a_bundle_without_a_recorded_run_are_not_run(tmp_path):
    page = _predictions(load_reference(CONFIGS), Bundle(tmp_path / "empty"))
    assert page[-2] == "Not run."


def test_the_readme_s_table_stands_between_its_marks(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    write_into_readme(path, ["new", "lines"])
    assert path.read_text(encoding="utf-8") == f"before\n{BEGIN}\nnew\nlines\n{END}\nafter\n"
    path.write_text("no marks", encoding="utf-8")
    with pytest.raises(ConfigError, match="expected <!-- reference run"):
        write_into_readme(path, ["new"])


def test_cells_that_differ_in_a_stand_in_alone_are_run_once(tmp_path):
    """PAPO's 7B and 14B have one tiny model here; DAPO is the same run, PAPO has another omega_max."""
    group = Group(name="papo", title="papo", paper="papo", seeds=[0])
    reference = Reference(scale="study", groups=[group])
    wanted = [cell for cell in cells_of(group, reference, CONFIGS) if "agentic" not in cell.experiment]
    names = {str(cell) for cell in wanted}
    assert {"papo/7b-math/dapo/seed0", "papo/14b-math/dapo/seed0", "papo/7b-math/base/seed0"} <= names
    bundle = Bundle(tmp_path / "bundle")
    left = {str(cell) for cell in without_same(wanted, reference, CONFIGS, bundle)}
    assert "papo/14b-math/dapo/seed0" not in left
    assert {"papo/7b-math/papo_polarity/seed0", "papo/14b-math/papo_polarity/seed0"} <= left
    curve = synthetic_curve(np.random.default_rng(0), 0.5)
    bundle.add([write_run(tmp_path / "results", "papo/7b-math/dapo/seed0", curve)], CONFIGS)
    without_same(wanted, reference, CONFIGS, bundle)
    assert bundle.cells() == {"papo/7b-math/dapo/seed0", "papo/14b-math/dapo/seed0"}
    for name in ("curves", "runs", "outcomes"):
        same = bundle.of(name, "papo/14b-math")
        assert len(same) == len(bundle.of(name, "papo/7b-math")) > 0
        assert set(same["experiment"]) == {"14b-math"}
    assert bundle.of("predictions", "papo/14b-math", each_run_once=True).empty
    assert len(bundle.of("predictions", "papo/7b-math", each_run_once=True))


def test_a_paper_s_report_is_made_from_the_bundle(tmp_path):
    bundle = Bundle(tmp_path / "bundle")
    curve = synthetic_curve(np.random.default_rng(0), 0.5)
    made = write_run(tmp_path / "made", "papo/7b-math/dapo/seed0", curve)
    shutil.copytree(made / "eval", made / "eval/step32")
    shutil.copy(made / "eval.done.json", made / "eval/step32")
    replaced = pd.DataFrame({"group": ["early", "late"], "impact": [0.5, 0.1]})
    write_parquet(made / "interventions/smoke_easy.parquet", replaced)
    bundle.add([made], CONFIGS)
    reference = Reference(scale="study", groups=[Group(name="papo", title="papo", paper="papo", seeds=[0])])
    cells = unpack(bundle, "papo", reference, CONFIGS, tmp_path / "out")
    assert [str(cell) for cell in cells] == ["papo/7b-math/dapo/seed0"]
    folder = tmp_path / "out/study/papo/7b-math/dapo/seed0"
    kept = {
        benchmark: [sample.model_copy(update={"prompt_sha256": ""}) for sample in samples]
        for benchmark, samples in read_samples_of(made).items()
    }
    assert read_samples_of(folder) == kept
    assert evaluated_steps(folder) == [32]
    assert set(pd.read_csv(folder / "checkpoints.csv")["step"]) == {32, len(curve)}
    assert read_samples_of(folder / "eval/step32", "*") == kept
    assert read_parquet(folder / "interventions/smoke_easy.parquet")["group"].tolist() == ["early", "late"]
    assert read_parquet(folder / "metrics.parquet")["entropy"].to_numpy() == pytest.approx(
        curve["entropy"].to_numpy()
    )
    tokens = read_parquet(folder / "token_stats.parquet")
    assert len(tokens) == len(synthetic_tokens())
    made_again = tokens["advantage"] * (tokens["t2"] - tokens["t1"])
    assert tokens["polarity"].to_numpy() == pytest.approx(made_again.to_numpy())
    scores = pd.read_csv(folder / "scores.csv").set_index(["benchmark", "metric"])["value"]
    assert scores["smoke_easy", "mean@2"] == 0.5
    build_report("papo", "study", CONFIGS, tmp_path / "out", only="table1")
    table = pd.read_csv(tmp_path / "out/study/papo/table1.csv")
    assert set(table.loc[table["reproduced"].notna(), "cell"]) == {"papo/7b-math/dapo/seed0"}


def test_a_group_s_table_has_its_own_cells_and_none_of_a_paper_on_the_same_experiment(tmp_path):
    bundle = Bundle(tmp_path / "bundle")
    rng = np.random.default_rng(0)
    names = [f"{EXPERIMENT}/{cell}" for cell in ("grpo/seed0", "dapo/seed0", "ent_reg/seed0", "dapo/seed1")]
    made = [write_run(tmp_path / "made", name, synthetic_curve(rng, 0.5)) for name in names]
    bundle.add([*made, write_run(tmp_path / "made", f"{EXPERIMENT}/base/seed0", None)], CONFIGS)
    group = Group(
        name="g", title="g", experiment=EXPERIMENT, methods=["grpo", "dapo"], seeds=[0, 2], baseline="grpo"
    )
    page = _render_group(group, Reference(scale="study", groups=[group]), bundle, CONFIGS)
    assert "2 of 4 cells." in page
    table = pd.read_csv(bundle.folder / "g.csv")
    assert sorted(table["method"]) == ["dapo", "grpo"]
    assert table["seeds"].tolist() == [1, 1]
    another = group.model_copy(update={"experiment": "papo/7b-math-slower"})
    assert _render_group(another, Reference(scale="study", groups=[another]), bundle, CONFIGS)[2] == (
        "Not run: 4 cells."
    )


def test_the_page_says_what_machine_trained_beside_cells_that_were_not_trained(tmp_path):
    bundle = Bundle(tmp_path / "bundle")
    curve = synthetic_curve(np.random.default_rng(0), 0.5)
    runs = {"papo/7b-math/base/seed0": None, "papo/7b-math/dapo/seed0": curve}
    bundle.add([write_run(tmp_path / "made", name, of) for name, of in runs.items()], CONFIGS)
    (line,) = _about(bundle)
    assert re.match(r"2 cells, 0\.0 h of training on \d+ cores of .*; verl 0\.9\.1; code of abc\.", line)


def test_an_artifact_stands_on_the_page_with_its_state_and_its_files(tmp_path):
    for name in ("figure1.png", "table1.md", "table1.csv"):
        (tmp_path / name).touch()
    state = partial(ArtifactState, "papo")
    drawing = _artifact_on_page(state("figure9", "Figure 9", "not drawn", lacks="a drawing"), tmp_path)
    assert drawing == ["## Figure 9", "", "not drawn: a drawing.", ""]
    figure = _artifact_on_page(state("figure1", "F", "complete", 2, 2, 2, lacks="its key"), tmp_path)
    assert figure[2:] == ["complete: 2 of 2 runs; without its key.", "", "![figure1](figure1.png)", ""]
    table = _artifact_on_page(state("table1", "T", "partial", 1, 2, 2, "1 run"), tmp_path)
    assert table[4] == "[table1.md](table1.md), [table1.csv](table1.csv)"


def test_every_link_of_the_bundle_leads_to_a_file():
    pages = [page for page in default_folder().rglob("*.md") if page.is_file()]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#]+)\)", page.read_text())]
    assert len(links) > 5
    assert not [(page, link) for page, link in links if not (page.parent / link).is_file()]


def read_samples_of(folder, benchmarks="eval/*"):
    files = sorted(folder.glob(f"{benchmarks}/samples.jsonl"))
    return {path.parent.name: read_samples(path) for path in files}
