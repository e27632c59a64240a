"""The rehearsal of evaluations: what would run, what has to be fetched, what would fail."""

import pytest
from command_line import entrobench

from entrobench.cells import CellId, listed_cells
from entrobench.configs import Configs
from entrobench.data.schema import Problem
from entrobench.errors import CorruptFile, MissingInput, UnknownName, UnsupportedPlatform
from entrobench.machine.site import Evaluation, Site, Slurm
from entrobench.paths import repository_root
from entrobench.rehearsal import evaluation as rehearsal
from entrobench.rehearsal.evaluation import Finding, as_text, exit_status, rehearse_evaluation
from entrobench.rehearsal.evaluation_jobs import evaluation_jobs
from entrobench.rewards.code_sandbox import require_sandbox

pytestmark = pytest.mark.slow

CONFIGS = Configs(repository_root() / "configs")
OPEFO = CellId("opefo", "math-7b", "opefo", 0)


def has_sandbox():
    try:
        require_sandbox()
    except (MissingInput, UnsupportedPlatform):
        return False
    return True


def problem(name, text="What?"):
    return Problem.model_validate({"id": "1", "benchmark": name, "problem": text, "gold": "1"})


def findings_of(cell, tmp_path, scale="paper"):
    found = rehearse_evaluation([cell], scale, CONFIGS, tmp_path, None)
    return {finding.benchmark: finding for finding in found}


@pytest.fixture
def staged(monkeypatch, tmp_path):
    """Every benchmark has one problem, no model a tokenizer; `set(name, outcome)` changes one of them."""
    monkeypatch.setenv("ENTROBENCH_SHARED_DATA", str(tmp_path / "none"))
    outcomes = {}

    def problems(name, stage):
        outcome = outcomes.get(name)
        if isinstance(outcome, Exception):
            raise outcome
        return [problem(name)]

    monkeypatch.setattr(rehearsal, "_problems", problems)
    return outcomes


def test_each_state_by_what_stops_a_benchmark(staged, tmp_path, monkeypatch):
    staged["aime24"] = CorruptFile("line 3")
    staged["math500"] = MissingInput("not on this machine")

    def grader(name):
        if name == "minerva":
            raise MissingInput("no checker")
        if name == "amc23":
            raise UnknownName("no grader")

    monkeypatch.setattr(rehearsal, "require_grader", grader)
    found = findings_of(OPEFO, tmp_path)
    assert {name: finding.state for name, finding in found.items()} == {
        "aime24": "fails",
        "aime25": "runs",
        "amc23": "fails",
        "math500": "download",
        "minerva": "fails",
        "olympiadbench": "runs",
    }
    assert "line 3" in found["aime24"].note
    assert "lengths not counted" in found["aime25"].note
    assert found["aime25"].hours > 0
    assert exit_status(list(found.values())) == 1
    assert exit_status([found["aime25"], found["math500"]]) == 0, "what can be fetched is no failure"


def test_what_a_person_has_to_get_is_told_from_a_download(tmp_path, monkeypatch):
    monkeypatch.setenv("ENTROBENCH_SHARED_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("ENTROBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    exchange = findings_of(CellId("exchange", "7b", "base", 0), tmp_path)
    assert exchange["gpqa_diamond"].state == "by hand"
    assert exchange["math500"].state == "download"
    appworld = findings_of(CellId("repo", "appworld-8b", "base", 0), tmp_path)
    assert {finding.state for finding in appworld.values()} == {"by hand"}
    assert "appworld download data" in appworld["appworld_test_normal"].note


def test_one_finding_for_all_cells_of_an_experiment(staged, tmp_path):
    cells = [cell for cell in listed_cells("opefo", CONFIGS) if cell.experiment == "math-7b"]
    found = rehearse_evaluation(cells, "paper", CONFIGS, tmp_path, None)
    assert len(found) == 6
    assert {finding.cells for finding in found} == {len(cells)}


def test_smoke_runs_from_nothing(tmp_path):
    found = findings_of(CellId("papo", "7b-math", "dapo", 0), tmp_path, "smoke")
    assert {(finding.state, finding.problems, finding.hours) for finding in found.values()} == {
        ("runs", 72, None)
    }


def test_the_table_names_each_reason_once():
    findings = [
        Finding("opefo/math-7b", "aime24", "fails", 11, "broken"),
        Finding("opefo/math-7b", "aime25", "fails", 11, "broken"),
        Finding("opefo/math-7b", "amc23", "runs", 11, problems=40, samples=1280, longest=249, hours=0.05),
    ]
    lines = as_text(findings, []).splitlines()
    assert lines[3].split() == ["opefo/math-7b", "amc23", "runs", "11", "40", "1280", "249", "0.05"]
    assert lines[5:7] == ["opefo/math-7b aime24, opefo/math-7b aime25:", "  broken"]


def test_the_jobs_of_an_experiment(tmp_path):
    def jobs(site, scale="paper"):
        cells = [CellId("opefo", "math-7b", method, 0) for method in ("base", "opefo")]
        [found] = evaluation_jobs(cells, scale, CONFIGS, tmp_path, site)
        return found

    alone = jobs(None)
    # 32 samples of 30 + 30 + 40 problems, one of 500 + 272 + 675
    assert (alone.cells, alone.samples, alone.gpus, alone.sample_jobs) == (2, 32 * 100 + 1447, 1, 1)
    assert alone.evaluations == 5, "the last checkpoint and four of a grid"
    assert alone.score_minutes == pytest.approx(5 * alone.samples / 4000 / 60)
    spread = jobs(Site(slurm=Slurm(partition="gpu"), evaluation=Evaluation(models_beside=4, shards=2)))
    assert (spread.gpus, spread.sample_jobs, spread.sample_gb) == (4, 2, 4 * alone.sample_gb)
    assert spread.sample_hours == pytest.approx(alone.sample_hours / 8)
    on_cpu = jobs(None, "smoke")
    assert (on_cpu.gpus, on_cpu.sample_gb, on_cpu.sample_hours) == (0, None, None)


def test_every_listed_cell_over_the_real_data(real_data, capsys):
    """Two long prompts of OPEFO, and the graders of tool calls: each once stopped a whole table."""
    status = entrobench("rehearse", "evaluate", "--scale", "paper")
    output = capsys.readouterr().out
    rows = [line.split() for line in output.splitlines()]
    lines = {tuple(row[:2]): row for row in rows if len(row) > 2}
    failing = {name for (_, name), line in lines.items() if line[2] == "fails"}
    assert failing == (set() if has_sandbox() else {"humaneval"}), output
    assert status == (1 if failing else 0)
    olympiad = lines["opefo/math-7b", "olympiadbench"]
    # 1,282 tokens in the longest prompt, 3,000 to be generated, 4,096 positions: 2 of 675 have less
    assert olympiad[2:9] == ["runs", "11", "675", "675", "1282", "2", olympiad[8]]
    for name in ("bfcl_live", "bfcl_non_live"):
        assert lines["papo/14b-agentic", name][2] == "runs"
    for name in ("acebench_en", "acebench_zh"):
        assert lines["papo/14b-agentic", name][2] in ("runs", "download"), "its checker is a pinned download"
    assert lines["papo/7b-math", "ifeval"][2] == "runs"
