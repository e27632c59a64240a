"""Sampling processes side by side, and the evaluation of a model that belongs to no cell."""

import os
import signal
import sys
import threading
import time

import pytest
import yaml
from command_line import entrobench
from support import make_model

from entrobench.cells import read_cell
from entrobench.configs import Configs
from entrobench.data.prompts import check_settings
from entrobench.errors import ConfigError, MissingInput, Unfinished, UnknownName
from entrobench.evaluation.engine import SamplerFailed
from entrobench.evaluation.run import gpu_groups, noted_signals, run_beside, visible_gpus
from entrobench.evaluation.standalone import make_standalone
from entrobench.files import read_json
from entrobench.paths import repository_root

pytestmark = pytest.mark.slow

CONFIGS = Configs(repository_root() / "configs")
WAITS = """
import signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75))
open(sys.argv[1], "w")
time.sleep(60)
"""


def test_gpus_are_shared_out_in_groups_of_one_models_size():
    assert gpu_groups(1, ["0", "1", "3"]) == [["0"], ["1"], ["3"]]
    assert gpu_groups(2, ["0", "1", "3"]) == [["0", "1"]], "the odd one is not used"
    assert gpu_groups(0, ["0", "1"]) == [], "on a CPU"


def test_visible_gpus_are_those_that_the_job_was_given(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert visible_gpus() == ["2", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []


def test_each_process_sees_its_own_gpus(tmp_path):
    code = "import os, sys; open(sys.argv[1], 'w').write(os.environ['CUDA_VISIBLE_DEVICES'])"
    files = [tmp_path / "a", tmp_path / "b"]
    commands = [[sys.executable, "-c", code, str(file)] for file in files]
    run_beside(commands, [{"CUDA_VISIBLE_DEVICES": "0,1"}, {"CUDA_VISIBLE_DEVICES": "2,3"}])
    assert [file.read_text() for file in files] == ["0,1", "2,3"]


def test_one_that_fails_lets_the_others_finish(tmp_path):
    file = tmp_path / "finished"
    commands = [
        [sys.executable, "-c", "raise SystemExit(3)"],
        [sys.executable, "-c", "import sys, time; time.sleep(0.5); open(sys.argv[1], 'w')", str(file)],
    ]
    with pytest.raises(SamplerFailed, match="1 of 2 sampling processes failed, with status 3"):
        run_beside(commands, [{}, {}])
    assert file.exists()


def test_a_request_to_stop_reaches_every_process(tmp_path):
    files = [tmp_path / "a", tmp_path / "b"]

    def ask_when_both_run():
        deadline = time.monotonic() + 30
        while not all(file.exists() for file in files) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGUSR1)

    asking = threading.Thread(target=ask_when_both_run)
    asking.start()
    started = time.monotonic()
    with pytest.raises(Unfinished, match="goes on from there"):
        run_beside([[sys.executable, "-c", WAITS, str(file)] for file in files], [{}, {}])
    asking.join()
    assert time.monotonic() - started < 45, "not the 60 s that they would sleep"


def test_signals_are_as_they_were_afterwards():
    before = signal.getsignal(signal.SIGUSR1)
    with noted_signals() as requests:
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.05)
    assert requests == [signal.SIGUSR1]
    assert signal.getsignal(signal.SIGUSR1) == before


def test_a_model_without_a_cell_gets_the_papers_settings(tmp_path, monkeypatch):
    make_model(tmp_path / "model")
    monkeypatch.setenv("ENTROBENCH_SHARED_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("ENTROBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    out = tmp_path / "out"
    assert make_standalone(str(tmp_path / "model"), ["math500", "aime24"], "opefo", out, CONFIGS) == (
        tmp_path / "model"
    )
    cell = yaml.safe_load((out / "cell.yaml").read_text())
    # 32 samples of AIME, 1 of MATH500, top-p 0.7 (OPEFO, Section 6.1); the model has 512 positions
    assert {name: found["n_samples"] for name, found in cell["evaluation"].items()} == {
        "math500": 1,
        "aime24": 32,
    }
    assert cell["evaluation"]["aime24"]["top_p"] == 0.7
    assert cell["evaluation"]["aime24"]["max_model_len"] == 512
    # Data that cannot be had here stop nothing yet; the manifest says why
    assert "not on this machine" in read_json(out / "benchmarks" / "math500.manifest.json")["missing"]


def test_a_user_may_leave_out_the_examples_whose_file_is_not_here(tmp_path, monkeypatch):
    make_model(tmp_path / "model")
    monkeypatch.setenv("ENTROBENCH_SHARED_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("ENTROBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    out, names = tmp_path / "out", ["mmlu_pro_greedy", "ifeval_greedy", "math500"]
    make_standalone(str(tmp_path / "model"), names, "papo", out, CONFIGS, 1, zero_shot=True)
    asked = {name: found["prompt"] for name, found in read_cell(out / "cell.yaml")["evaluation"].items()}
    assert asked["mmlu_pro_greedy"] == {"lm_eval": "mmlu_pro", "zero_shot": True}
    assert asked["ifeval_greedy"] == {"lm_eval": "ifeval"}
    assert asked["math500"].keys() == {"messages"}
    assert not (out / "prompts").exists()


def test_a_user_may_have_less_generated_than_the_benchmarks_own_tool(tmp_path, monkeypatch):
    make_model(tmp_path / "model")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    out, changes = tmp_path / "out", {"max_tokens": 7}
    make_standalone(str(tmp_path / "model"), ["ifeval_greedy"], "papo", out, CONFIGS, 1, changes)
    [settings] = yaml.safe_load((out / "cell.yaml").read_text())["evaluation"].values()
    check_settings(settings, "ifeval_greedy")
    assert (settings["max_tokens"], settings["changed"]) == (7, ["max_tokens"])
    del settings["changed"]
    with pytest.raises(ConfigError, match="max_tokens"):
        check_settings(settings, "ifeval_greedy")


def test_names_that_do_not_exist_end_a_standalone_evaluation_at_once(tmp_path):
    make_model(tmp_path / "model")
    model = str(tmp_path / "model")
    with pytest.raises(UnknownName, match="Did you mean math500"):
        make_standalone(model, ["math50"], "papo", tmp_path / "out", CONFIGS)
    with pytest.raises(UnknownName, match="Did you mean papo"):
        make_standalone(model, ["math500"], "papoo", tmp_path / "out", CONFIGS)
    with pytest.raises(ConfigError, match="owner/name@commit"):
        make_standalone("Qwen/Qwen2.5-7B", ["math500"], "papo", tmp_path / "out", CONFIGS)
    assert not (tmp_path / "out").exists()


def test_a_hub_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("ENTROBENCH_MIRROR", raising=False)
    with pytest.raises(MissingInput, match="HF_HUB_OFFLINE=1 forbids the download"):
        make_standalone("Qwen/Qwen2.5-7B@abc", ["math500"], "papo", tmp_path / "out", CONFIGS)


def test_without_a_cell_the_command_says_what_it_wants(capsys):
    assert entrobench("evaluate", "--model", "x") == 2
    assert "--benchmarks and --out" in capsys.readouterr().err
