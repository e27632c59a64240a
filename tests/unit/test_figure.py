"""Every kind of panel, on made-up runs whose numbers are known by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from entrobench.configs import Configs
from entrobench.errors import ConfigError, CorruptFile
from entrobench.evaluation.intervention import GROUPS
from entrobench.files import read_csv, write_parquet
from entrobench.paths import repository_root
from entrobench.report import tokens as of_tokens
from entrobench.report.artifacts import Panel, figure_lines, load_artifacts, panels_at
from entrobench.report.build import render_figure, render_table
from entrobench.report.categories import category, counts
from entrobench.report.figure import DRAWN, draw_figure
from entrobench.report.information import mutual_information
from entrobench.report.recorded import Recorded

CONFIGS = Configs(repository_root() / "configs")


def run_in(folder, last=0.5, seed=0):
    """A run of two steps, entropy 1 and `last`, with twelve tokens, scores, checkpoints."""
    folder.mkdir(parents=True)
    curve = pd.DataFrame({
        "step": [1, 2], "reward": [0.1, 0.2], "response_length": [5.0, 6.0], "entropy": [1.0, last],
        "omega_pos": [1.0, 1.02], "omega_neg": [1.0, 0.98],
    })  # fmt: skip
    write_parquet(folder / "metrics.parquet", curve)
    random = np.random.default_rng(seed)
    n = 12
    tokens = pd.DataFrame({
        "step": [1] * 6 + [2] * 6, "sequence": [0] * 6 + [1] * 6, "group": 0,
        "correct": [True] * 6 + [False] * 6, "length": 6, "position": [*range(6)] * 2, "token": range(n),
        "text": ["7", "so", "wait", "\n$x$", "+", "john", "7", "so", "so", "\n$x$", "+", "john"],
        "logp": -random.random(n), "entropy": random.random(n), "sum_p2": 0.5, "t1": random.normal(size=n),
        "t2": random.random(n), "advantage": [1.0] * 6 + [-1.0] * 6,
        "shaped_advantage": [1.1] * 6 + [-0.9] * 6,
        "polarity": random.normal(size=n), "branch": [1, -1] * 6, "clipped": 0,
        "logp_after": -random.random(n), "entropy_after": random.random(n),
    })  # fmt: skip
    write_parquet(folder / "token_stats.parquet", tokens)
    impacts = pd.DataFrame({"group": ["early", "early", "late", "late"], "impact": [0.5, 0.3, 0.1, -0.1]})
    write_parquet(folder / "interventions/aime24.parquet", impacts)
    (folder / "scores.csv").write_text("benchmark,value,ci_low,ci_high\naime24,0.5,0.4,0.7\n")
    (folder / "checkpoints.csv").write_text(
        f"step,benchmark,metric,value\n1,aime24,mean@8,0.25\n1,aime24,pass@8,0.9\n2,aime24,mean@8,{last}\n"
    )
    return Recorded(folder)


def test_a_figure_has_a_line_a_method_a_band_over_seeds_and_says_what_was_not_run(tmp_path):
    seeds = [run_in(tmp_path / str(last), last) for last in (0.5, 0.7)]
    panels = [Panel(of=["entropy"]), Panel(of=["omega_pos", "omega_neg"])]
    figure = draw_figure({"PAPO": seeds, "DAPO": []}, panels, "Figure 5")
    entropy, weights = figure.axes
    assert [text.get_text() for text in entropy.get_legend().get_texts()] == ["PAPO", "DAPO: not run"]
    means = [line.get_ydata().tolist() for line in entropy.lines if len(line.get_ydata())]
    assert means == [[1.0, pytest.approx(0.6)]]
    (band,) = entropy.collections
    assert band.get_paths()[0].vertices[:, 1].min() == 0.5
    assert band.get_paths()[0].vertices[:, 1].max() == 1.0
    assert len(weights.get_legend().get_texts()) == 2
    neutral = [line.get_ydata()[0] for line in weights.lines if len(line.get_ydata())]
    assert 1.0 in neutral, "the neutral weight"


EXAMPLES = {
    "curves": ["reward"], "scores": ["aime24"], "trajectory": ["cumulative_entropy", "aime24"],
    "bars": ["aime24", "amc23"], "histogram": ["t1_advantage", "t2_advantage"],
    "density": ["polarity", "entropy_change"], "points": ["advantage", "shaped_advantage", "logp"],
    "concentration": ["polarity"], "positions": ["polarity"], "tokens": ["polarity"],
    "categories": ["probability_shift"], "changes": ["frequency"], "falling": [], "quality": [],
    "interventions": ["early", "late"],
}  # fmt: skip


@pytest.mark.parametrize("kind", EXAMPLES)
def test_every_kind_is_drawn_and_says_what_was_not_run(kind, tmp_path):
    assert set(EXAMPLES) == set(DRAWN)
    panel = Panel(kind=kind, of=EXAMPLES[kind])
    figure = draw_figure({"A": [run_in(tmp_path / "a")], "B": []}, [panel], "x")
    ax = figure.axes[0]
    assert ax.has_data()
    assert not [text for text in ax.texts if text.get_text() == "not run"]
    figure.canvas.draw()
    empty = draw_figure({"A": [], "B": []}, [panel], "x")
    assert "not run" in [text.get_text() for text in empty.axes[0].texts]


def test_scores_and_trajectories_are_of_the_first_metric_of_a_checkpoint(tmp_path):
    runs = {"A": [run_in(tmp_path / "a", 0.5)]}
    panels = [Panel(kind="scores", of=["aime24"]), Panel(kind="trajectory", of=EXAMPLES["trajectory"])]
    scores, path = draw_figure(runs, panels, "x").axes
    lines = [line.get_xydata().tolist() for line in scores.lines if len(line.get_xdata())]
    assert lines == [[[1, 25.0], [2, 50.0]]]
    points = [line.get_xydata().tolist() for line in path.lines]
    assert [[1.0, 25.0], [1.5, 50.0]] in points, "entropy summed over the steps until then"
    assert points[-1] == [[1.5, 50.0]], "the highest is marked"


def test_bars_have_the_interval_of_the_score(tmp_path):
    ax = draw_figure({"A": [run_in(tmp_path / "a")]}, [Panel(kind="bars", of=["aime24"])], "x").axes[0]
    (bar,) = ax.patches
    assert bar.get_height() == 50
    (interval,) = ax.collections
    assert interval.get_segments()[0][:, 1].tolist() == pytest.approx([40, 70])


def test_quantities_by_hand():
    tokens = pd.DataFrame({
        "step": 1, "sequence": [0, 0, 1], "position": [0, 1, 0], "length": [2, 2, 1],
        "logp": [math.log(0.5), math.log(0.25), math.log(0.5)],
        "logp_after": [math.log(0.75), math.log(0.25), 0.0],
        "sum_p2": 0.5, "advantage": [2.0, 2.0, -1.0],
    })  # fmt: skip
    assert of_tokens.quantity("probability_change", tokens).tolist() == pytest.approx([0.25, 0, 0.5])
    # exp of the mean of (ln 2, ln 4) is the geometric mean of 2 and 4
    assert of_tokens.quantity("perplexity", tokens).tolist() == pytest.approx([8**0.5, 8**0.5, 2])
    # ‖e - π‖² = 1 - 2p + Σp²
    assert of_tokens.quantity("logit_gradient", tokens).tolist() == pytest.approx([2 * 0.5**0.5, 2, 0.5**0.5])
    assert of_tokens.quantity("relative_position", tokens).tolist() == [0, 1, 0]
    assert of_tokens.highest("probability_shift", tokens)["sequence"].tolist() == [1]
    with pytest.raises(ConfigError, match="no quantity of tokens entropies; there are polarity"):
        of_tokens.quantity("entropies", tokens)


def test_changes_between_the_first_and_the_last_record(tmp_path):
    run = run_in(tmp_path / "a")
    # "a" falls from 1 to .2 in wrong responses, "b" rises, "c" stands in one record only
    write_parquet(run.folder / "token_stats.parquet", run.tokens.iloc[:8].assign(
        step=[1, 1, 1, 1, 20, 20, 20, 20], text=list("aabc") + list("abbb"), sequence=0,
        entropy=[1.0, 1.0, 0.1, 0.3, 0.2, 0.4, 0.4, 0.4],
        correct=[False, False, True, True, False, True, True, True],
    ))  # fmt: skip
    runs = {"A": [Recorded(run.folder)]}
    entropy, frequency, falling = draw_figure(
        runs,
        [
            Panel(kind="changes", of=["entropy"]),
            Panel(kind="changes", of=["frequency"]),
            Panel(kind="falling"),
        ],
        "x",
    ).axes
    assert [bar.get_width() for bar in entropy.patches] == pytest.approx([-0.8, 0.3])
    assert [text.get_text() for text in entropy.get_yticklabels()] == ["a", "b"]
    assert [bar.get_width() for bar in frequency.patches] == pytest.approx([-0.25, 0.5])
    assert [bar.get_height() for bar in falling.patches] == [0, 100, 0]


def test_interventions_are_the_mean_loss_of_a_group(tmp_path):
    panel = Panel(kind="interventions", of=["early", "late"])
    ax = draw_figure({"A": [run_in(tmp_path / "a")]}, [panel], "x").axes[0]
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([40, 0])


def test_quality_over_steps_is_of_whole_responses(tmp_path):
    run = run_in(tmp_path / "a")
    pieces = ["\\boxed{", "1}", "no", " box"]
    write_parquet(run.folder / "token_stats.parquet",
                  run.tokens.iloc[:4].assign(text=pieces, sequence=[0, 0, 1, 1]))  # fmt: skip
    ax = draw_figure({"A": [Recorded(run.folder)]}, [Panel(kind="quality")], "x").axes[0]
    values = [line.get_ydata().tolist() for line in ax.lines if len(line.get_ydata())]
    assert values == [[50.0], [0.0], [0.0]]


def test_categories_of_tokens():
    assert [category(text) for text in (" 12", "+", "x", " However", " wait", "john", " frac")] == [
        "formal reasoning", "formal reasoning", "formal reasoning", "logical structuring", "metacognitive",
        "semantic support", "semantic support",
    ]  # fmt: skip
    assert counts("So x = 2, john.") == {
        "logical structuring": 1, "formal reasoning": 3, "semantic support": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("panel", "said"),
    [
        ({"kind": "density", "of": ["polarity"]}, "density: expected 2 names"),
        ({"kind": "points", "of": ["logp"]}, "points: expected 2 or more names"),
        ({"kind": "pie", "of": ["logp"]}, "Input should be"),
    ],
)
def test_a_panel_that_cannot_be_is_refused(panel, said):
    with pytest.raises(ValidationError, match=said):
        Panel.model_validate(panel)


def test_mutual_information_by_hand():
    x = pd.Series([0, 0, 1, 1])
    assert mutual_information(x, x, 2) == pytest.approx(math.log(2)), "one tells the other"
    assert mutual_information(x, pd.Series([0, 1, 0, 1]), 2) == pytest.approx(0)
    with pytest.raises(ValueError, match="of no pairs"):
        mutual_information(x[:0], x[:0], 2)


def test_repos_table_6_is_of_the_checkpoints_of_all_methods(tmp_path):
    for method in ("rloo", "gspo"):
        run_in(tmp_path / f"paper/repo/aime-8b/{method}/seed0", {"rloo": 0.5, "gspo": 0.25}[method])
    render_table("table6", "repo", "paper", CONFIGS, tmp_path)
    table = read_csv(tmp_path / "paper/repo/table6.csv").set_index(["model", "row", "column"])
    ours = table.loc[("Qwen3-8B", "AIME24", "MI (Iteration)")]
    assert (ours["published"], ours["n_checkpoints"], ours["status"]) == (0.131, 4, "measured")
    # (step, score) is (1, .25) with probability 1/2, (2, .5) and (2, .25) with 1/4 each
    by_hand = 0.5 * math.log(4 / 3) + 0.25 * math.log(2) + 0.25 * math.log(2 / 3)
    assert ours["reproduced"] == pytest.approx(by_hand)
    assert table.loc[("Qwen3-32B", "AIME24", "MI (Iteration)"), "status"] == "not_run"


@pytest.mark.parametrize("paper", ["papo", "exchange", "repo", "opefo"])
def test_every_figure_is_of_names_that_exist(paper):
    """Without a run nothing reads the names; so each is looked up here."""
    benchmarks = {name for path in (CONFIGS.root / "benchmarks").glob("*.yaml") for name in [path.stem]}
    for name, figure in load_artifacts(paper, CONFIGS).figures.items():
        methods = {method for _, method in figure_lines(figure, "paper", CONFIGS)}
        assert all(CONFIGS.method(method) for method in methods), name
        for panel in figure.drawn:
            if panel.kind in ("scores", "bars"):
                assert set(panel.of) <= benchmarks, name
            elif panel.kind == "trajectory":
                assert panel.of[0] in ("entropy", "cumulative_entropy"), name
                assert set(panel.of[1:]) <= benchmarks, name
            elif panel.kind == "interventions":
                assert set(panel.of) <= set(GROUPS), name
            elif panel.kind == "changes":
                assert panel.of[0] in ("entropy", "frequency"), name
            elif panel.kind != "curves":
                assert {*panel.of, *filter(None, [panel.top])} <= set(of_tokens.QUANTITIES), name


def test_a_figure_of_several_experiments_names_them(tmp_path):
    run_in(tmp_path / "paper/repo/appworld-8b/repo_dapo/seed0")
    title = render_figure("figure7", "repo", "paper", CONFIGS, tmp_path)
    assert title == "Figure 7 at scale paper: Qwen3-8B"
    assert (tmp_path / "paper/repo/figure7.pdf").stat().st_size > 1000


def test_a_scale_s_benchmarks_stand_in_a_panel_for_the_paper_s(tmp_path):
    figure = load_artifacts("repo", CONFIGS).figures["figure1_aime_8b"]
    assert panels_at(figure, CONFIGS.scale("paper")) == (figure.drawn, {})
    panels, stand_ins = panels_at(figure, CONFIGS.scale("study"))
    assert stand_ins == {"smoke_hard": "aime24"}
    asked = {panel.kind: panel.of for panel in panels}
    assert asked["scores"] == ["smoke_hard"], "the scale has nothing for AIME25"
    assert asked["trajectory"] == ["cumulative_entropy", "smoke_hard"]
    assert asked["curves"] == ["entropy"]
    title = render_figure("figure1_aime_8b", "repo", "study", CONFIGS, tmp_path)
    assert title.endswith("smoke_agent for qwen3_8b, smoke_hard for aime24")


def test_a_damaged_record_is_named(tmp_path):
    run = run_in(tmp_path / "a")
    (run.folder / "token_stats.parquet").write_bytes(b"PAR1")
    with pytest.raises(CorruptFile, match=r"a/token_stats\.parquet"):
        Recorded(run.folder).tokens  # noqa: B018
