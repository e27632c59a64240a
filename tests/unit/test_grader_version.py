"""The version of a grader moves with the code and packages that decide its verdicts, with nothing else."""

import shutil
import subprocess
import sys
import time

import pytest

from entrobench.rewards import grader_version as versions
from entrobench.rewards.grader_version import rules_of, version_of
from entrobench.rewards.graders import GRADERS, grader_version


def forget():
    version_of.cache_clear()
    rules_of.cache_clear()


@pytest.fixture
def copied(monkeypatch, tmp_path):
    """A function that changes a module in a copy of the graders' code; versions are made from the copy."""
    folder = tmp_path / "rewards"
    shutil.copytree(versions._FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(versions, "_FOLDER", folder)
    forget()

    def change(module):
        with (folder / f"{module}.py").open("a") as stream:
            stream.write("CHANGED = True\n")
        forget()

    yield change
    forget()


NAMES = ("math500", "crux", "mmlu_pro", "ifeval", "humaneval", "tool_n1", "bfcl_live")


@pytest.mark.parametrize(
    ("module", "moved"),
    [
        ("ifeval", {"ifeval"}),
        ("ifeval_worker", {"ifeval"}),
        ("crux", {"crux"}),
        ("multiple_choice", {"mmlu_pro"}),
        ("humaneval", {"humaneval"}),
        ("in_sandbox", {"humaneval"}),
        ("worker", {"math500"}),
        ("math_answers", {"math500"}),
        ("processes", {"math500", "ifeval"}),
        ("function_call_ast", {"bfcl_live"}),
        ("answer_grade", set(NAMES)),
        ("graders", set(NAMES)),
        ("detectors", set()),
    ],
)
def test_a_change_makes_the_verdicts_stale_that_it_may_change(copied, module, moved):
    before = {name: grader_version(name) for name in NAMES}
    copied(module)
    assert {name for name in NAMES if grader_version(name) != before[name]} == moved


def test_the_packages_that_decide_stand_in_it(monkeypatch):
    version_of.cache_clear()
    monkeypatch.setattr(versions, "version", lambda package: f"[{package}]")
    found = {name: grader_version(name) for name in NAMES}
    version_of.cache_clear()
    assert "lm-eval [lm-eval], math-verify [math-verify], sympy [sympy]" in found["math500"]
    assert "antlr4-python3-runtime 4.11" in found["math500"]
    assert "langdetect [langdetect], lm-eval [lm-eval], nltk [nltk], nupunkt [nupunkt]" in found["ifeval"]
    assert "bfcl-eval 2025.7.17" in found["bfcl_live"]
    assert f"Python {sys.version_info.major}.{sys.version_info.minor}" in found["humaneval"]
    assert "," not in found["crux"], "no package decides"


def test_every_grader_has_a_version_at_once():
    forget()
    started = time.process_time()
    first = [grader_version(name) for name in GRADERS]
    # 50 ms for one; these are 7 different ones
    assert time.process_time() - started < 7 * 0.05
    started = time.process_time()
    assert [grader_version(name) for name in GRADERS] == first
    assert time.process_time() - started < 0.01
    assert grader_version("smoke_b") == grader_version("smoke")


def test_another_process_has_the_same():
    code = "from entrobench.rewards.graders import grader_version; print(grader_version('ifeval'))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == grader_version("ifeval")


def test_grading_does_not_import_torch():
    code = "import sys; import entrobench.rewards.graders; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
