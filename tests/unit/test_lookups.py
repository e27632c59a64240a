"""What the rules look up, without Snakemake: files of a cell, and what its jobs ask for."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from entrobench.cells import CellId, entries_of, model_of, why_not
from entrobench.configs import Configs
from entrobench.errors import ConfigError, UnknownName
from entrobench.files import write_json
from entrobench.machine.site import Evaluation, Gpus, Site, Slurm
from entrobench.paths import repository_root
from entrobench.report.artifacts import artifact_cells
from entrobench.workflow.lookups import Lookups

CONFIGS = Configs(repository_root() / "configs")
RESULTS = Path("results")
SITE = Site(slurm=Slurm(partition="gpu", cpu_partition="cpu"), gpus=Gpus(per_node=8, cpus_per_gpu=6))
SITE_OF_THREE = SITE.model_copy(update={"evaluation": Evaluation(shards=3, models_beside=4)})
LOCAL = Lookups(CONFIGS, RESULTS, None)
CLUSTER = Lookups(CONFIGS, RESULTS, SITE)


def wildcards(cell, scale="paper", **others):
    return SimpleNamespace(cell=cell, scale=scale, **others)


def test_files_of_a_trained_cell():
    cell = wildcards("papo/7b-math/dapo/seed1")
    assert LOCAL.start_model(cell) == RESULTS / "paper/models/qwen2_5_7b/model.json"
    assert LOCAL.training_set(cell) == RESULTS / "paper/data/dapo_math_17k/papo/train.parquet"
    assert LOCAL.trained(cell) == RESULTS / "paper/papo/7b-math/dapo/seed1/train.done.json"
    names = ["olympiadbench", "amc23", "aime24", "aime25", "math500", "minerva"]
    names += ["cruxeval", "ifeval", "mmlu_pro"]  # once, though each of these is asked twice
    expected = [RESULTS / f"paper/benchmarks/{name}.manifest.json" for name in names]
    assert LOCAL.benchmark_files(cell) == expected, "a manifest also says why a benchmark is missing"
    smoke = LOCAL.benchmark_files(wildcards("papo/7b-math/dapo/seed1", "smoke"))
    assert RESULTS / "smoke/benchmarks/smoke_hard.jsonl" in smoke


def test_a_training_set_is_prepared_for_each_paper_that_asks_it_in_its_own_way():
    found = [
        LOCAL.training_set(wildcards(cell))
        for cell in ("papo/7b-math/dapo/seed0", "papo/14b-math/dapo/seed0", "opefo/math-7b/opefo/seed0")
    ]
    assert [path.parts[-2] for path in found] == ["papo", "papo", "opefo"]
    assert LOCAL.training_prompt("papo", "dapo_math_17k") != LOCAL.training_prompt("opefo", "dapo_math_17k")
    with pytest.raises(ConfigError, match=r"opefo/protocol\.yaml: prompt_of: expected how still_3 is asked"):
        LOCAL.training_prompt("opefo", "still_3")


def test_rows_that_are_made_here_have_one_prompt():
    found = {
        LOCAL.training_set(wildcards(cell, "smoke"))
        for cell in ("papo/7b-math/dapo/seed0", "opefo/math-7b/opefo/seed0")
    }
    assert found == {RESULTS / "smoke/data/smoke_arithmetic/train.parquet"}


def test_a_base_model_is_evaluated_as_it_is():
    cell = wildcards("papo/7b-math/base/seed0")
    assert LOCAL.trained(cell) == LOCAL.start_model(cell)


def test_a_cell_that_goes_on_from_another_waits_for_it():
    cell = wildcards("repo/aime-8b-then-appworld/repo_r/seed2")
    assert LOCAL.start_model(cell) == RESULTS / "paper/repo/aime-8b/repo_r/seed2/best.json"
    last = wildcards("repo/aime-8b-last-then-appworld/repo_r/seed2")
    assert LOCAL.start_model(last) == RESULTS / "paper/repo/aime-8b/repo_r/seed2/train.done.json"


def test_the_smoke_scale_shows_its_cells_and_the_paper_scale_all():
    smoke = LOCAL.scores_of("smoke", ["papo"])
    assert [path.parts[3] for path in smoke] == ["7b-math"] * len(smoke)
    scores = LOCAL.scores_of("paper", CONFIGS.papers())
    assert len(scores) == 264
    controls = LOCAL.scores_of_controls("paper", CONFIGS.papers())
    assert controls == [path for path in scores if path.parts[-3] == "base"]
    assert RESULTS / "paper/papo/control-7b-instruct/base/seed0/scores.csv" in controls


def test_all_inputs_are_the_models_sets_and_benchmarks_of_the_cells_once():
    found = LOCAL.inputs_of_papers("paper", ["opefo"])
    assert len(found) == len(set(found))
    assert RESULTS / "paper/models/qwen2_5_math_7b/model.json" in found
    assert {path.parts[2] for path in found} == {"models", "data", "benchmarks"}
    assert {path.parts[2] for path in LOCAL.inputs_of_papers("paper", ["papo"])} == {
        "models",
        "data",
        "benchmarks",
        "prompts",
    }


def test_a_slice_is_asked_for_where_the_scale_has_a_limit():
    assert LOCAL.slice_option("slice", "math500").startswith("--limit ")
    assert LOCAL.slice_option("paper", "math500") == ""


def test_an_evaluation_depends_on_the_files_that_its_prompts_are_made_from():
    found = LOCAL.prompt_files(wildcards("papo/7b-math/base/seed0"))
    assert found == [RESULTS / f"paper/prompts/{name}.json" for name in ("mmlu_pro_shots", "zeroeval_crux")]
    assert LOCAL.prompt_files(wildcards("papo/7b-math/base/seed0", "smoke")) == []
    assert LOCAL.prompt_files(wildcards("opefo/math-7b/opefo/seed0")) == []


def test_names_are_split_by_how_their_files_come_to_be():
    assert set(LOCAL.generated_benchmarks()) == {
        *("smoke_easy", "smoke_medium", "smoke_hard", "smoke_ood"),
        *("smoke_shell_easy", "smoke_shell_medium", "smoke_shell_hard"),
    }
    assert set(LOCAL.generated_datasets()) == {"smoke_arithmetic", "smoke_shell"}
    assert "appworld" in LOCAL.prepared_datasets()
    assert "math500" in LOCAL.prepared_benchmarks()
    assert set(LOCAL.prepared_benchmarks()) & set(LOCAL.generated_benchmarks()) == set()
    assert "dapo_math_17k" in LOCAL.prepared_datasets()
    assert "smoke_arithmetic" not in LOCAL.prepared_datasets()
    assert "smoke_tiny" not in LOCAL.published_models()


def test_on_one_machine_a_job_states_its_memory_and_takes_all_cores():
    assert LOCAL.small_job(2000) == {"mem_mb": 2000}
    job = LOCAL.heavy_job("train", 10000)
    assert {key: value(wildcards("papo/7b-math/dapo/seed0")) for key, value in job.items()} == {
        "mem_mb": 10000
    }
    assert LOCAL.heavy_threads("train", lambda: 2) == 2


def test_a_job_that_reads_samples_asks_for_memory_by_their_number():
    # PAPO's 7b-math: 675 + 40 + 30 + 30 + 500 + 272 problems x 8, 800 + 541 + 12,032 x 10 and once more
    # greedily; 2 kB a sample
    samples = 1547 * 8 + 13_373 * 11
    cell = wildcards("papo/7b-math/dapo/seed0")
    assert LOCAL.score_job()["mem_mb"](cell) == 1500 + 2 * samples // 1000
    assert CLUSTER.score_job()["slurm_partition"] == "cpu"
    assert (
        CLUSTER.score_job()["mem_mb"](wildcards("papo/7b-math/dapo/seed0", "smoke"))
        == 1500 + 4 * 72 * 8 * 2 // 1000
    )
    for job, wanted in ((LOCAL.report_job(), {"paper": "opefo"}), (LOCAL.report_job("opefo"), {})):
        report = SimpleNamespace(scale="paper", **wanted)
        per_cell = (30 + 30 + 40) * 32 + 500 + 272 + 675
        cells = len(LOCAL.report_cells("paper", "opefo"))
        assert job["mem_mb"](report) == 1500 + cells * per_cell * 2 // 1000


def test_an_artifact_waits_for_the_cells_that_it_shows():
    wanted = artifact_cells("opefo", "table2", "paper", CONFIGS)
    scores = LOCAL.scores_among("paper", "opefo", wanted)
    assert [path.parts[-3] for path in scores] == [
        "grpo_on_policy", "opefo", "opefo_static", "opefo_rising_only", "opefo_falling_only",
    ]  # fmt: skip
    figure = artifact_cells("papo", "figure5", "smoke", CONFIGS)
    assert figure == {("7b-math", "dapo"), ("7b-math", "papo_polarity")}, "what this scale has"


def test_a_score_waits_for_the_audit_of_its_experiment_where_there_can_be_one():
    cell = wildcards("papo/7b-math/dapo/seed1")
    assert LOCAL.audit(cell) == [RESULTS / "paper/papo/7b-math/contamination.csv"]
    assert LOCAL.audit(wildcards("papo/7b-math/dapo/seed1", "smoke")) == [], "generated, disjoint"
    assert LOCAL.audit(wildcards("repo/appworld-8b/repo_r/seed0")) == [], "got by hand"
    # The audit waits for what it compares: sets that are not on this machine yet would not be looked at
    experiment = SimpleNamespace(scale="paper", paper="papo", experiment="7b-math")
    assert LOCAL.audited_files(experiment) == [LOCAL.training_set(cell), *LOCAL.benchmark_files(cell)]


def no_cores():
    raise AssertionError("Snakemake has no number of cores where SLURM runs the jobs")


def test_on_a_cluster_a_job_asks_for_the_devices_of_its_step():
    cell = wildcards("papo/7b-math/dapo/seed0")
    train = {key: value(cell) for key, value in CLUSTER.heavy_job("train", 10000).items()}
    assert (train["nodes"], train["gres"], train["slurm_partition"]) == (2, "gpu:8", "gpu")
    evaluate = {key: value(cell) for key, value in CLUSTER.heavy_job("evaluate", 6000).items()}
    assert (evaluate["nodes"], evaluate["gres"]) == (1, "gpu:1")
    assert CLUSTER.heavy_threads("train", no_cores)(cell) == 8 * 6
    assert CLUSTER.heavy_threads("evaluate", no_cores)(cell) == 6
    assert CLUSTER.small_job()["slurm_partition"] == "cpu"


def test_a_machine_with_gpus_shares_them_and_its_cores_among_its_jobs():
    machine = Lookups(CONFIGS, RESULTS, None, gpus=8)
    cell = wildcards("papo/7b-math/dapo/seed0", "mini")
    assert {key: value(cell) for key, value in machine.heavy_job("train", 10000).items()} == {
        "mem_mb": 10000, "gpu": 1,
    }  # fmt: skip
    assert machine.heavy_threads("train", lambda: 64)(cell) == 8
    base = wildcards("papo/7b-math/base/seed0", "mini")
    assert machine.heavy_job("evaluate", 6000)["gpu"](base) == 1
    with pytest.raises(ConfigError, match="wants 2 x 8 GPUs, and this machine has 8"):
        machine.heavy_job("train", 10000)["gpu"](wildcards("papo/7b-math/dapo/seed0"))


def test_a_cell_that_cannot_run_is_in_no_plan_and_says_why():
    assert len({cell.experiment for cell in LOCAL.report_cells("paper", "repo")}) == 12
    assert {cell.experiment for cell in LOCAL.report_cells("mini", "repo")} == {"aime-8b", "aime-32b"}
    with pytest.raises(ConfigError, match="cannot run at scale mini: no benchmark to evaluate it on"):
        LOCAL.settings("train")(wildcards("repo/appworld-8b/rloo/seed0", "mini"))
    with pytest.raises(ConfigError, match="it starts from repo/appworld-8b/"):
        LOCAL.settings("sample")(wildcards("repo/appworld-8b-then-aime/repo_grpo/seed0", "mini"))


def test_at_mini_every_cell_that_can_run_has_benchmarks_and_a_model_of_its_kind():
    settings = CONFIGS.scale("mini")
    for paper in CONFIGS.papers():
        for cell in LOCAL.report_cells("mini", paper):
            published = CONFIGS.protocol(paper).experiments[cell.experiment].model
            model = CONFIGS.model(model_of(cell, settings, CONFIGS))
            assert ("instruct" in published) == ("instruct" in model.model), cell
            assert entries_of(cell, settings, CONFIGS), cell


def test_a_scale_without_a_benchmark_of_the_experiment_is_named():
    scale = CONFIGS.scale("mini").model_copy(update={"benchmarks": {"math500": "math500"}})
    cell = CellId("papo", "14b-agentic", "dapo", 0)
    assert why_not(cell, scale, CONFIGS).startswith(
        "no benchmark to evaluate it on: scale mini has nothing for"
    )


def test_what_cannot_be_is_named():
    with pytest.raises(UnknownName, match="Did you mean 7b-math"):
        LOCAL.settings("train")(wildcards("papo/7b-maths/dapo/seed0"))
    small = Lookups(CONFIGS, RESULTS, Site(slurm=Slurm(partition="gpu"), gpus=Gpus(per_node=4)))
    with pytest.raises(ConfigError, match="wants 8 GPUs on each of 2 nodes"):
        small.heavy_job("train", 1)["nodes"](wildcards("papo/7b-math/dapo/seed0"))


def test_sampling_is_split_over_the_sites_shards_and_models_beside():
    cell = wildcards("papo/7b-math/dapo/seed0")
    assert [path.name for path in LOCAL.sampled(cell)] == ["sampled.1of1.json"]
    split = Lookups(CONFIGS, RESULTS, SITE_OF_THREE)
    assert [path.name for path in split.sampled(cell)] == [f"sampled.{i}of3.json" for i in (1, 2, 3)]
    job = {key: value(cell) for key, value in split.heavy_job("evaluate", 6000).items()}
    assert job["gres"] == "gpu:4", "four copies of a model of one GPU"
    large = wildcards("repo/aime-32b/rloo/seed0")
    job = {key: value(large) for key, value in split.heavy_job("evaluate", 6000).items()}
    assert job["gres"] == "gpu:8", "four copies of a model of two"


@pytest.fixture
def with_milestones(tmp_path):
    """Look-ups of a copy of the configuration whose opefo/math-7b is given these keys, for 3 shards."""

    def lookups(**keys):
        shutil.copytree(CONFIGS.root, tmp_path / "configs")
        path = tmp_path / "configs/papers/opefo/protocol.yaml"
        protocol = yaml.safe_load(path.read_text())
        protocol["experiments"]["math-7b"] |= keys
        path.write_text(yaml.safe_dump(protocol))
        return Lookups(Configs(tmp_path / "configs"), RESULTS, SITE_OF_THREE)

    return lookups


def test_milestones_of_an_experiment_are_evaluated_beside_the_last_step(with_milestones):
    found = with_milestones(milestones=[100, 200, 300], evaluated_milestones=[300, 100, 500])
    trained = wildcards("opefo/math-7b/opefo/seed0")
    folder = RESULTS / "paper/opefo/math-7b/opefo/seed0"
    # Step 500 is the last one, which is evaluated anyway
    assert found.graded_checkpoints(trained) == [folder / f"eval/step{k}/eval.done.json" for k in (100, 300)]
    assert found.sampled_checkpoint(wildcards("opefo/math-7b/opefo/seed0", step="100")) == [
        folder / f"eval/step100/sampled.{shard}of3.json" for shard in (1, 2, 3)
    ]
    # 32 steps: no milestone is reached
    for cell in (wildcards("opefo/math-7b/opefo/seed0", "smoke"), wildcards("opefo/math-7b/base/seed0")):
        assert found.graded_checkpoints(cell) == []
    untouched = wildcards("papo/7b-math/papo_polarity/seed0")
    assert CLUSTER.graded_checkpoints(untouched) == [], "PAPO reports the last checkpoint"


def test_what_is_missing_is_tried_again_where_it_can_come_from_elsewhere_and_what_is_there_is_not(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("ENTROBENCH_SHARED_DATA", str(tmp_path))
    monkeypatch.delenv("ENTROBENCH_MIRROR", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    lookups = Lookups(CONFIGS, tmp_path / "results", None)
    asked = SimpleNamespace(benchmark="math500", scale="mini")
    reach = lookups.reach("benchmark")
    assert reach(asked) == "0 files here, offline"
    manifest = tmp_path / "results/mini/benchmarks/math500.manifest.json"
    write_json(manifest, {"missing": "no source", "reach": "0 files here, offline"})
    (tmp_path / "math500").mkdir()
    (tmp_path / "math500" / "test.jsonl").write_text("")
    assert reach(asked) == "1 files here, offline"
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_TOKEN", "x")
    assert reach(asked) == "1 files here, the hub, with a token"
    write_json(manifest, {"problems": 500, "reach": "1 files here, offline"})
    assert reach(asked) == "1 files here, offline"
