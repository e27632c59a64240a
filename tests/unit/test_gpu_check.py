"""The stages of gpu-check on a machine without a GPU: what they compare, and what they say when it is off."""

import importlib
import json

import pytest
import torch
from command_line import entrobench

from entrobench.gpu_check import engine, kernels, model, stages
from entrobench.gpu_check.stages import Stage, run_stages
from entrobench.training import attention

pytestmark = pytest.mark.slow


def test_a_stage_passes_on_the_cpu_and_says_what_it_skips(capsys, tmp_path):
    assert entrobench("gpu-check", "kernels", "--out", str(tmp_path / "report.json")) == 0
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    assert [(stage["stage"], stage["status"]) for stage in report["stages"]] == [("kernels", "pass")]
    assert report["versions"]["torch"] == torch.__version__
    if not torch.cuda.is_available():
        assert "on a GPU: skip: no CUDA device" in printed
    assert "error of statistics" in printed


@pytest.mark.parametrize("stage", stages.STAGES)
def test_every_stage_has_a_check(stage):
    module = importlib.import_module(f"entrobench.gpu_check.{stage}")
    assert callable(getattr(module, f"check_{stage}"))


def test_model_and_engine_agree_with_what_they_are_compared_with():
    assert model.check_model()["error of logits, packed"] < 1e-5
    try:
        assert engine.check_engine()["difference of log-probabilities"] < 1e-4
    finally:
        torch.distributed.destroy_process_group()


def test_a_kernel_becomes_machine_code_and_its_launcher_needs_a_compiler(monkeypatch):
    from entrobench.gpu_check import triton as stage
    from entrobench.kernels import triton_stats

    name, size = stage._machine_code(triton_stats._row_kernel, 90)
    assert (name, size > 1000) == ("row_kernel", True)
    stage._compile_launcher()
    monkeypatch.setenv("CC", "false")
    with pytest.raises(AssertionError, match="false: "):
        stage._compile_launcher()


def test_an_unknown_stage_is_told_the_nearest(capsys):
    assert entrobench("gpu-check", "kernel") == 1
    assert "Did you mean kernels" in capsys.readouterr().err


def test_a_stage_that_fails_dies_or_has_no_package_stops_no_other(monkeypatch, tmp_path):
    folder = tmp_path / "entrobench_gpu_check"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "__main__.py").write_text(
        "import os, sys\n"
        "if sys.argv[1] == 'raises': raise AssertionError('statistics are off')\n"
        "if sys.argv[1] == 'dies': os._exit(9)\n"
        'print(\'noise\'); print(\'{"on_gpu": true, "figures": {"figure": 2}}\')\n'
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(stages, "PACKAGE", "entrobench_gpu_check")
    of_test = {name: Stage(name, ("torch",)) for name in ("raises", "dies", "works")}
    monkeypatch.setattr(stages, "STAGES", of_test | {"lacks": Stage("lacks", ("no_such_package",))})
    found = {outcome.stage: outcome for outcome in run_stages(stages.STAGES)}
    assert (found["raises"].status, found["raises"].note) == (
        "fail",
        "exit code 1: AssertionError: statistics are off",
    )
    assert (found["dies"].status, found["dies"].note) == ("fail", "exit code 9: no message")
    assert (found["works"].status, found["works"].figures) == ("pass", {"figure": 2})
    assert (found["lacks"].status, found["lacks"].note) == ("skip", "not installed: no_such_package")


def test_kernels_that_are_off_fail(monkeypatch):
    right = kernels.token_stats
    monkeypatch.setattr(kernels, "token_stats", lambda *a: right(*a)._replace(t2=right(*a).t2 + 0.01))
    with pytest.raises(AssertionError, match="statistics are off by"):
        kernels.check_kernels()
    monkeypatch.undo()
    exact = kernels.log_prob_and_entropy
    monkeypatch.setattr(kernels, "log_prob_and_entropy", lambda *a: (1.01 * exact(*a)[0], exact(*a)[1]))
    with pytest.raises(AssertionError, match="gradient is off by"):
        kernels.check_kernels()


def test_attention_that_looks_ahead_fails(monkeypatch):
    right = attention.packed_attention

    def across_sequences(query, key, value, starts, longest, scale):
        whole = torch.stack([starts[0], starts[-1]])
        return right(query, key, value, whole, int(whole[-1]), scale)

    monkeypatch.setattr(attention, "packed_attention", across_sequences)
    with pytest.raises(AssertionError, match="logits: off by"):
        model.check_model()
