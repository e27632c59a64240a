"""The estimate: sizes against transformers, one cell by hand, what is reused, targets, limits."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from command_line import entrobench

from entrobench.cells import CellId, listed_cells, resolve
from entrobench.cluster.submit import SLURM, check_limits, run_snakemake, snakemake_command
from entrobench.configs import Configs
from entrobench.cost.arithmetic import (
    Architecture,
    Gpu,
    decode_seconds,
    fits,
    pass_seconds,
    update_factor,
)
from entrobench.cost.estimate import (
    architecture_of,
    estimate,
    generation_factor,
    load_assumptions,
    papers_gpu,
    problems_of,
    step_of,
)
from entrobench.cost.targets import earlier_cells, target_cells, target_names
from entrobench.cost.text import as_json, as_text
from entrobench.errors import ConfigError, LimitExceeded, MissingInput, UnknownName, UnsupportedPlatform
from entrobench.files import write_json
from entrobench.machine.site import Gpus, Limits, Site, Slurm, load_site
from entrobench.paths import repository_root
from entrobench.runs.run_files import Curve

CONFIGS = Configs(repository_root() / "configs")
H100 = Gpu("h100", 989, 3.35, 80, mfu_train=0.35, mfu_generate=0.10, mbu_generate=0.5)
SITE = Site(slurm=Slurm(partition="gpu"))
DAPO = "papo/7b-math/dapo/seed0"
STATED = [name for name in CONFIGS.names("models") if CONFIGS.model(name).architecture]


@pytest.mark.parametrize("name", STATED)
def test_parameters_are_those_of_the_model_that_transformers_builds(name):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    stated = CONFIGS.model(name).architecture
    config = AutoConfig.for_model(**{k: v for k, v in stated.items() if k != "architectures"})
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(config)
    assert Architecture.of(stated, name).parameters == built.num_parameters()


def test_an_unknown_kind_of_model_is_named():
    with pytest.raises(
        ConfigError, match=r"there: model_type: expected llama, qwen2 or qwen3, found 'mamba'"
    ):
        Architecture.of({"model_type": "mamba"}, "there")
    with pytest.raises(ConfigError, match="num_hidden_layers is missing"):
        Architecture.of({"model_type": "qwen2"}, "there")


def test_one_cell_by_hand(tmp_path):
    found = estimate(DAPO, "paper", CONFIGS, tmp_path, None).costs[0]
    # Qwen2.5-7B: N = 7,615,616,512; its embedding of 152,064 x 3,584 = 544,997,376 is only looked up.
    #   2 N' = 2 (7,615,616,512 - 544,997,376) = 14,141,238,272; attention 4 L h d = 4 x 28 x 3,584 = 401,408
    # 150 tokens of prompt, 0.3 x 8,192 = 2,457.6 of response: S = 2,607.6
    #   F(S / 2) = 14,141,238,272 + 401,408 x 1,303.8 = 14,664,594,022
    # 402 steps train 128 x 8 = 1,024 sequences, generate 2 x 1,024 (dynamic sampling), on 16 GPUs.
    trained = 1024 * 2607.6
    forward = trained * 14_664_594_022 / (16 * 989e12 * 0.35)  # 7.07 s on all GPUs
    assert forward == pytest.approx(7.070, abs=0.001)
    assert found.logprob == pytest.approx(402 * forward * 16 / 3600, rel=1e-9)
    assert found.update == pytest.approx(4 * found.logprob, rel=1e-9), "forward, backward 2, forward again"
    # Decoding: 8 servers of two GPUs, 256 sequences each. KV cache 2 x 28 x 4 x 128 x 2 = 57,344 bytes a
    # token; mean context 150 + 1,228.8 = 1,378.8. All 256 fit, so 8,192 steps read 2 N bytes, and each of the
    # 256 x 2,457.6 = 629,146 tokens its context:
    #   8,192 x 15,231,233,024 + 629,145.6 x 1,378.8 x 57,344 = 1.745e14 bytes
    #   at 2 x 3.35e12 x 0.5 B/s = 52.1 s
    # By FLOPs: 629,145.6 x (14,141,238,272 + 401,408 x 1,378.8) / (2 x 989e12 x 0.1) = 46.7 s: less.
    decode = (8192 * 15_231_233_024 + 629_145.6 * 1378.8 * 57_344) / 3.35e12
    assert decode == pytest.approx(52.09, abs=0.01)
    # 256 prompts of 150 tokens are read once for their group: F(75) = 14,171,343,872
    prefill = 256 * 150 * 14_171_343_872 / (16 * 989e12 * 0.35)
    assert found.generate == pytest.approx(402 * (decode + prefill) * 16 / 3600, rel=1e-6)
    assert found.tokens_trained == pytest.approx(402 * trained)
    assert found.tokens_generated == pytest.approx(402 * 2048 * 2457.6)
    # Overhead 15 %; evaluation runs on one GPU after training on 16
    phases = found.generate + found.logprob + found.update
    assert found.overhead == pytest.approx(0.15 * (phases + found.evaluate))
    assert found.wall_hours == pytest.approx(1.15 * (phases / 16 + found.evaluate))
    # Checkpoints: two kept and one being written, 12 bytes a parameter, 4 of the last one's model; samples 3
    # bytes a token
    assert found.disk_gb == pytest.approx((40 * 7_615_616_512 + 3 * found.tokens_evaluated) / 1e9)
    # 30 + 30 + 40 + 272 + 675 problems x 8 x 2,457.6, 500 x 8 x 390 and, ten samples and a greedy one,
    # 800 x 11 x 205, 541 x 11 x 400 and 12,032 x 11 x 600 tokens
    assert found.tokens_evaluated == pytest.approx(
        1047 * 8 * 2457.6 + 500 * 8 * 390 + 800 * 11 * 205 + 541 * 11 * 400 + 12_032 * 11 * 600
    )


def test_decoding_is_bound_by_compute_where_many_sequences_share_the_weights():
    model = Architecture.of(CONFIGS.model("qwen2_5_7b").architecture, "")
    slow = replace(H100, mfu_generate=0.02)
    arguments = {"sequences": 256, "prompt": 150, "response": 2457.6, "longest": 8192}
    seconds = decode_seconds(model, slow, 2, 0.8, **arguments)
    assert seconds == pytest.approx(629_145.6 * model.forward_flops(1378.8) / (2 * 989e12 * 0.02))
    # One long response alone takes as many steps as the batch, so it costs nearly as much
    alone = decode_seconds(model, H100, 2, 0.8, 1, 150, 8192, 8192)
    assert alone == pytest.approx(8192 * (2 * model.parameters + (150 + 4096) * model.kv_bytes) / 3.35e12)


def test_sequences_that_do_not_fit_wait_and_models_that_do_not_fit_are_refused():
    model = Architecture.of(CONFIGS.model("qwen3_32b").architecture, "")
    assert not fits(model, H100, 1, 0.8, 4096), "66 GB of weights in 64 GB"
    with pytest.raises(ConfigError, match=r"66 GB of weights .* do not fit on 1 x h100 of 80 GB"):
        decode_seconds(model, H100, 1, 0.8, 8, 150, 4096, 4096)
    # 300 fit at once by the cache (64 x 2 x 8 x 128 x 2 x 2 bytes a token): more of them take more steps
    few, many = (decode_seconds(model, H100, 2, 0.8, n, 150, 3686, 4096) for n in (50, 600))
    assert many > 6 * few


def test_a_step_runs_at_the_settings_that_fit_and_one_that_cannot_is_refused():
    resolved = resolve(DAPO, "paper", CONFIGS, Path("results"))
    model = Architecture.of(CONFIGS.model("qwen2_5_7b").architecture, "")

    def step_on(gb):
        gpu = replace(H100, gb=gb)
        return step_of(CellId.parse(DAPO, CONFIGS), resolved, model, gpu, 16, load_assumptions(CONFIGS))

    assert step_on(24).generate != step_on(80).generate, "servers of more GPUs"
    assert step_on(24).update == step_on(80).update
    with pytest.raises(ConfigError, match="does not fit on 16 GPUs of 3 GB"):
        step_on(3)


def test_an_update_of_full_training_and_lora():
    assert [
        update_factor(c, lora) for c, lora in ((False, False), (True, False), (False, True), (True, True))
    ] == [3, 4, 2, 3]


def test_pass_time_is_linear_in_tokens_and_falls_with_gpus():
    model = Architecture.of(CONFIGS.model("qwen2_5_7b").architecture, "")
    once = pass_seconds(model, H100, 8, 1e6, 2048)
    assert pass_seconds(model, H100, 16, 2e6, 2048) == pytest.approx(once)
    assert pass_seconds(model, H100, 8, 1e6, 4096) > once


def test_disk_where_every_checkpoint_is_kept(tmp_path):
    shutil.copytree(CONFIGS.root, tmp_path / "configs")
    scale = tmp_path / "configs/scales/paper.yaml"
    text = scale.read_text()
    scale.write_text(text.replace("ckpt_to_keep: {value: 2}", "ckpt_to_keep: {value: null}"))
    found = estimate(DAPO, "paper", Configs(tmp_path / "configs"), tmp_path, None).costs[0]
    # 402 steps, one checkpoint every 20 and the last: 20 + 1, 12 bytes a parameter, and 4 of one model
    assert found.disk_gb == pytest.approx(((21 * 12 + 4) * 7_615_616_512 + 3 * found.tokens_evaluated) / 1e9)


def test_what_is_done_costs_nothing_more(tmp_path):
    fresh = estimate(DAPO, "paper", CONFIGS, tmp_path, None).costs[0]
    folder = tmp_path / "paper" / DAPO
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints/latest_checkpointed_iteration.txt").write_text("201")
    half = estimate(DAPO, "paper", CONFIGS, tmp_path, None).costs[0]
    assert half.update == pytest.approx(fresh.update / 2), "201 of 402 steps"
    assert half.reused == ("201 of 402 steps",)
    write_json(folder / "train.done.json", {})
    write_json(folder / "eval/mmlu_pro/samples.meta.json", {})
    trained = estimate(DAPO, "paper", CONFIGS, tmp_path, None).costs[0]
    assert trained.generate == trained.update == trained.tokens_trained == 0
    assert 0 < trained.evaluate < fresh.evaluate
    assert trained.reused == ("training", "mmlu_pro")
    for name in CONFIGS.protocol("papo").experiments["7b-math"].benchmarks:
        write_json(folder / "eval" / name / "samples.meta.json", {})
    write_json(folder / "eval.done.json", {})
    (folder / "scores.csv").touch()
    done = estimate(DAPO, "paper", CONFIGS, tmp_path, None).costs[0]
    assert (done.status, done.gpu_hours, done.wall_hours, done.disk_gb) == ("done", 0, 0, 0)


def test_each_evaluated_milestone_costs_an_evaluation(tmp_path):
    shutil.copytree(CONFIGS.root, tmp_path / "configs")
    path = tmp_path / "configs/papers/papo/protocol.yaml"
    protocol = yaml.safe_load(path.read_text())
    milestones = {"milestones": [100, 200], "evaluated_milestones": [100, 200]}
    protocol["experiments"]["7b-math"] |= milestones
    path.write_text(yaml.safe_dump(protocol))
    last, three = (
        estimate(DAPO, "paper", configs, tmp_path, None).costs[0]
        for configs in (CONFIGS, Configs(tmp_path / "configs"))
    )
    assert three.evaluate == pytest.approx(3 * last.evaluate)
    assert three.tokens_evaluated == pytest.approx(3 * last.tokens_evaluated)
    write_json(tmp_path / "paper" / DAPO / "eval/step100/mmlu_pro/samples.meta.json", {})
    less = estimate(DAPO, "paper", Configs(tmp_path / "configs"), tmp_path, None).costs[0]
    assert less.reused == ("mmlu_pro of step 100",)
    assert 2 * last.evaluate < less.evaluate < three.evaluate


def test_dynamic_sampling_multiplies_generation_and_not_training(tmp_path):
    dapo, grpo = (
        estimate(f"papo/7b-math/{method}/seed0", "paper", CONFIGS, tmp_path, None).costs[0]
        for method in ("dapo", "grpo")
    )
    assert dapo.tokens_generated == 2 * grpo.tokens_generated
    assert dapo.tokens_trained == grpo.tokens_trained


@pytest.mark.parametrize(
    ("generation_batch", "tied_share", "factor"),
    # Two training batches in one: up to half tied it is enough; of 0.8 tied, 1 / (2 x 0.2) = 2.5 -> 3 of them
    [(2, 0.0, 2), (2, 0.5, 2), (2, 0.51, 4), (2, 0.8, 6), (3, 0.4, 3), (3, 0.7, 6), (1, 0.0, 1)],
)
def test_dynamic_sampling_generates_whole_generation_batches(generation_batch, tied_share, factor):
    verl = {
        "algorithm.filter_groups.enable": True,
        "algorithm.filter_groups.max_inflight_gen_batches": generation_batch,
    }
    assert generation_factor(verl, tied_share) == factor
    assert generation_factor({}, tied_share) == 1


def test_every_cell_of_every_paper_can_be_estimated_at_both_scales_on_gpus(tmp_path):
    for scale in ("paper", "mini"):
        found = estimate("all", scale, CONFIGS, tmp_path, SITE, seeds=3)
        cells = [cost.cell for cost in (*found.costs, *(cost for cost, _ in found.apart))]
        assert len(cells) == len(set(cells)) > 300
        assert all(
            ("appworld" in cost.cell) == ("AppWorld" in why or "appworld" in why) for cost, why in found.apart
        )
        # At scale mini an untrained model without a benchmark of that scale costs nothing
        costly = [cost for cost in found.costs if scale == "paper" or "/base/" not in cost.cell]
        assert all(cost.gpu_hours > 0 and cost.disk_gb > 0 for cost in costly)
        text = as_text(found, load_assumptions(CONFIGS), SITE)
        assert "Above the limits" in text
        assert text.count("no hours stated") >= 4, "no paper gives hours"
        json = as_json(found, load_assumptions(CONFIGS))
        assert json["gpu_hours"] == pytest.approx(sum(cell["gpu_hours"] for cell in json["cells"]))


def test_assumptions_name_experiments_benchmarks_and_papers_that_exist():
    assumptions = load_assumptions(CONFIGS)
    experiments = {f"{p}/{e}" for p in CONFIGS.papers() for e in CONFIGS.protocol(p).experiments}
    assert set(assumptions.response_share_of) <= experiments
    assert set(assumptions.answer_tokens) <= set(CONFIGS.names("benchmarks"))
    assert set(assumptions.prompt_tokens_of) <= set(CONFIGS.names("datasets"))
    assert sorted(assumptions.hardware) == CONFIGS.papers()
    assert {hardware.gpu for hardware in assumptions.hardware.values()} <= set(assumptions.gpus)
    for cell in (c for paper in CONFIGS.papers() for c in listed_cells(paper, CONFIGS)):
        resolved = resolve(str(cell), "paper", CONFIGS, Path("results"))
        assert all(problems_of(name, resolved, CONFIGS) > 0 for name in resolved["evaluation"])


def test_scales_without_gpus_and_models_without_sizes_are_named(tmp_path):
    with pytest.raises(UnsupportedPlatform, match="scale smoke runs on a CPU"):
        estimate("papo", "smoke", CONFIGS, tmp_path, None)
    with pytest.raises(MissingInput, match="make smoke"):
        architecture_of("smoke_tiny", "smoke", CONFIGS, tmp_path)


def test_targets_are_groups_of_listed_cells():
    listed = {cell for paper in CONFIGS.papers() for cell in listed_cells(paper, CONFIGS)}
    assert set(target_cells("all", CONFIGS)) == set(target_cells("all_papers", CONFIGS)) == listed
    for name in target_names(CONFIGS):
        cells = target_cells(name, CONFIGS)
        assert cells, name
        assert set(cells) <= listed, name
    table1 = [str(cell) for cell in target_cells("papo_table1", CONFIGS)]
    assert len(table1) == 10
    assert DAPO in table1
    assert [c.method for c in target_cells("papo_fig7", CONFIGS)] == [
        "papo_explore",
        "papo_polarity",
        "papo_exploit",
        "dapo",
    ]
    seeds = target_cells("papo_table1", CONFIGS, seeds=3)
    assert len(seeds) == 2 * (1 + 4 * 3), "the base model is not trained and has no seeds"
    assert target_cells("papo/7b-math/opefo/seed1", CONFIGS) == [CellId("papo", "7b-math", "opefo", 1)]


def test_an_unknown_target_names_the_nearest_and_all():
    with pytest.raises(UnknownName, match=r"Did you mean papo_table1\?") as error:
        target_cells("papo_tabel1", CONFIGS)
    assert "repo_fig4" in str(error.value)
    with pytest.raises(UnknownName, match="unknown method"):
        target_cells("papo/7b-math/papoo/seed0", CONFIGS)


def test_cells_that_others_start_from_are_trained_and_not_evaluated(tmp_path):
    cells = target_cells("repo_fig4", CONFIGS)
    earlier = {str(cell) for cell in earlier_cells(cells, CONFIGS)}
    assert "repo/aime-8b/repo_r/seed2" in earlier
    estimated = estimate("repo_fig4", "paper", CONFIGS, tmp_path, None)
    costs = {cost.cell: cost for cost in estimated.costs}
    assert set(costs) == earlier | set(map(str, cells))
    assert costs["repo/aime-8b/repo_r/seed2"].update > 0
    assert costs["repo/aime-8b/repo_r/seed2"].evaluate == 0
    # At mini AppWorld's have no benchmark: nothing is trained for them, and no sum has it
    estimated = estimate("repo_fig4", "mini", CONFIGS, tmp_path, None)
    assert {cost.cell for cost, _ in estimated.apart} == set(costs)
    assert "Cannot run, not counted: " in as_text(estimated, load_assumptions(CONFIGS), None)


def test_above_a_limit_nothing_is_submitted_without_go(tmp_path):
    found = estimate("papo_table1", "paper", CONFIGS, tmp_path, SITE)
    with pytest.raises(LimitExceeded, match=r"(?s)GPU-hours, limit 100.*GB of disk, limit 2,000.*--go"):
        check_limits(found, SITE, go=False)
    check_limits(found, SITE, go=True)
    roomy = Site(slurm=Slurm(partition="gpu"), limits=Limits(gpu_hours=1e6, disk_gb=1e6))
    check_limits(found, roomy, go=False)
    just_disk = Site(slurm=Slurm(partition="gpu"), limits=Limits(gpu_hours=1e6, disk_gb=found.disk_gb - 1))
    with pytest.raises(LimitExceeded):
        check_limits(found, just_disk, go=False)


def test_submit_asks_snakemake_for_the_scores_of_the_cells(tmp_path):
    cells = target_cells("papo_fig7", CONFIGS)
    command = snakemake_command(cells, "paper", Path("results"), SLURM, ["--dry-run"])
    assert command[command.index("--profile") + 1] == "workflow/profiles/slurm"
    assert command[command.index("--") + 1 :] == [f"results/paper/{cell}/scores.csv" for cell in cells]
    with pytest.raises(MissingInput, match="this is no whole checkout"):
        run_snakemake(command, tmp_path)
    assert (repository_root() / "workflow/profiles/slurm/config.yaml").exists()


@pytest.fixture
def checkout_with(tmp_path, monkeypatch):
    """Make the working folder a checkout whose site.yaml has this text."""

    def make(site):
        shutil.copytree(CONFIGS.root, tmp_path / "configs")
        (tmp_path / "configs/site.yaml").write_text(site)
        monkeypatch.setenv("ENTROBENCH_ROOT", str(tmp_path))
        monkeypatch.setenv("ENTROBENCH_ALLOW_DIRTY", "1")  # of the code that runs, whose own tree may be
        monkeypatch.chdir(tmp_path)

    return make


def test_submit_with_the_command_line_stops_before_snakemake(checkout_with, tmp_path, capsys):
    checkout_with("slurm: {partition: gpu}\n")
    assert entrobench("submit", "papo_table1") == 1
    assert "Nothing was submitted" in capsys.readouterr().err
    assert entrobench("submit", "papo_table1", "--go") == 1
    assert "this is no whole checkout" in capsys.readouterr().err
    assert entrobench("estimate", "papo_table1", "--json", "out.json") == 0
    assert (tmp_path / "out.json").exists()


def test_submit_refuses_cells_that_do_not_fit_on_the_sites_gpus(checkout_with, capsys):
    checkout_with("slurm: {partition: gpu}\ngpus: {memory_gb: 16}\n")
    assert entrobench("submit", "papo_table1", "--go") == 1
    assert "does not fit on 16 GPUs of 16 GB" in capsys.readouterr().err


def test_the_example_site_has_the_defaults_of_the_schema(tmp_path):
    text = (CONFIGS.root / "site.example.yaml").read_text()
    (tmp_path / "site.yaml").write_text(text)
    assert load_site(tmp_path).gpus == Gpus(model="h100")


def test_what_runs_have_taken_here_scales_the_estimate_of_their_experiment(tmp_path):
    cells = ("papo/7b-math/dapo/seed0", "papo/7b-math/papo_polarity/seed0")
    before = {cell: estimate(cell, "paper", CONFIGS, tmp_path, SITE) for cell in cells}
    curve = Curve(tmp_path / "paper" / cells[1])
    curve.jsonl.parent.mkdir(parents=True)
    curve.append(1, {"timing_s/step": 9999})
    for step in range(2, 40):
        curve.append(step, {"timing_s/step": 500})
    found = estimate(cells[0], "paper", CONFIGS, tmp_path, SITE)
    (measured,) = found.measured.values()
    assert (measured.seconds, measured.steps) == (500, 38), "the first step is that of the start"
    expected, cost = before[cells[0]].costs[0], found.costs[0]
    assert cost.update == pytest.approx(expected.update * measured.factor)
    assert cost.evaluate == expected.evaluate
    assert "measured here: papo/7b-math: 500 s a step, median of 38" in as_text(
        found, load_assumptions(CONFIGS), SITE
    )
    other = estimate("papo/14b-math/dapo/seed0", "paper", CONFIGS, tmp_path, SITE)
    assert other.measured == {}


def test_a_gpu_with_little_compute_for_its_bandwidth_decodes_with_a_larger_share_of_it():
    assumptions = load_assumptions(CONFIGS)
    h20 = papers_gpu(assumptions.hardware["papo"], assumptions, H100)
    assert h20.name == "H20"
    assert h20.mfu_generate > H100.mfu_generate
    assert papers_gpu(assumptions.hardware["exchange"], assumptions, H100).mfu_generate == H100.mfu_generate
