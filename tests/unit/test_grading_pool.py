"""The pool of grading processes: bursts, kills, limits, threads, event loops, forks, generated answers."""

import asyncio
import os
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrobench.errors import ConfigError
from entrobench.rewards import pool as pool_module
from entrobench.rewards import processes as processes_module
from entrobench.rewards.graders import GRADERS, grade_many
from entrobench.rewards.math_answers import compare, extract_answer_line, extract_boxed, grade, settle
from entrobench.rewards.pool import GraderPool, pool
from entrobench.rewards.processes import PROCESSES_VARIABLE, pool_size
from entrobench.rewards.rules import Rule, canonical_integer

pytestmark = pytest.mark.slow

HANGS = "2^{2^{2^{2^{2^2}}}}"
PLAIN = Rule()


@pytest.fixture
def small_pool():
    own = GraderPool(2)
    yield own
    own.stop()


def children():
    """Grading processes of this process that run."""
    found = set()
    for process in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # also raised for another test's child that has ended, a zombie
            if "entrobench.rewards.worker" in process.cmdline():
                found.add(process.pid)
    return found


def test_a_burst_of_4096_requests_has_no_false_time_out(small_pool):
    # 4,096 threads wait for two processes; the last one waits for many times the limit of an answer
    request = "\\frac{{{}}}{{8192}}"
    done = [None] * 4096

    def ask(number):
        done[number] = small_pool.compare(request.format(number % 64), r"\frac{1}{4096}", PLAIN)

    small_pool.compare("1/2", "0.5", PLAIN)
    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4096)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [v.primary for v in done] == ["correct" if n % 64 == 2 else "incorrect" for n in range(4096)]
    assert "error" not in {v.second for v in done}


def test_waiting_is_not_counted(small_pool, monkeypatch):
    monkeypatch.setattr(pool_module, "TIME_LIMIT_SECONDS", 1.0)
    small_pool.compare("1/2", "0.5", PLAIN)
    with ThreadPoolExecutor(16) as executor:
        # Two answers hang for a second on two processes; those behind them wait for longer than the limit
        hanging = [executor.submit(small_pool.compare, f"{HANGS}+{n}", "7", PLAIN) for n in range(2)]
        good = [executor.submit(small_pool.compare, rf"\frac{{{n}}}{{3}}", "x", PLAIN) for n in range(8)]
        assert {future.result().primary for future in hanging} == {"error"}
        assert {future.result().primary for future in good} == {"incorrect"}


def test_processes_are_reused_and_started_anew_after_a_kill(small_pool):
    for number in range(5):
        assert small_pool.compare(f"{number}.5", "0.5", PLAIN).primary in ("correct", "incorrect")
    used = [w for w in small_pool.workers if w._process is not None]
    assert len(used) == 1, "one thread needs one process"
    pid = used[0]._process.pid
    used[0]._process.kill()
    assert small_pool.compare(r"\frac{2}{4}", "0.5", PLAIN).primary == "correct"
    assert used[0]._process.pid != pid


def test_a_hanging_answer_is_killed_in_time_and_leaves_nothing(small_pool, monkeypatch):
    monkeypatch.setattr(pool_module, "TIME_LIMIT_SECONDS", 1.0)
    small_pool.compare("1/2", "0.5", PLAIN)
    before = children()
    process = next(w._process for w in small_pool.workers if w._process is not None)
    started = time.monotonic()
    verdicts = small_pool.compare(HANGS, "5", PLAIN)
    assert (verdicts.primary, verdicts.second) == ("error", "error")
    assert time.monotonic() - started < 6 * 1.0 + 1
    assert children() == before - {process.pid}
    assert process.returncode is not None, "killed and waited for: no zombie"
    assert small_pool.compare(r"\frac{2}{4}", "0.5", PLAIN).primary == "correct"


def test_six_equal_slow_answers_cost_one(small_pool, monkeypatch):
    monkeypatch.setattr(pool_module, "TIME_LIMIT_SECONDS", 1.0)
    asked = []
    ask = small_pool._ask
    monkeypatch.setattr(small_pool, "_ask", lambda *request: asked.append(request) or ask(*request))
    with ThreadPoolExecutor(6) as executor:
        at_once = [executor.submit(small_pool.compare, HANGS, "5", PLAIN) for _ in range(6)]
        assert {future.result().primary for future in at_once} == {"error"}
    assert small_pool.compare(HANGS, "5", PLAIN).primary == "error"
    assert len(asked) == 1


def test_a_failure_that_need_not_come_again_is_not_remembered(small_pool, monkeypatch):
    # A machine that gave no processor time: the wall clock ended the wait
    monkeypatch.setattr(pool_module, "TIME_LIMIT_SECONDS", 0.2)
    monkeypatch.setattr(processes_module._Worker, "_cpu_seconds", lambda _: 0.0)
    verdicts = small_pool.compare(HANGS, "5", PLAIN)
    assert (verdicts.primary, verdicts.is_final) == ("error", False)
    assert not small_pool._decided


def test_an_interrupted_comparison_does_not_answer_for_the_others(small_pool, monkeypatch):
    started, ask = threading.Event(), small_pool._ask

    def interrupted(*request):
        monkeypatch.setattr(small_pool, "_ask", ask)
        started.set()
        time.sleep(0.2)
        raise KeyboardInterrupt

    monkeypatch.setattr(small_pool, "_ask", interrupted)
    with ThreadPoolExecutor(2) as executor:
        first = executor.submit(small_pool.compare, "1/2", "0.5", PLAIN)
        started.wait()
        second = executor.submit(small_pool.compare, "1/2", "0.5", PLAIN)
        assert isinstance(first.exception(), KeyboardInterrupt)
        assert second.result().primary == "correct"


def test_a_process_has_a_memory_limit(small_pool):
    small_pool.compare("1/2", "0.5", PLAIN)
    process = next(w._process for w in small_pool.workers if w._process is not None)
    limits = Path(f"/proc/{process.pid}/limits").read_text(encoding="ascii")
    line = next(line for line in limits.splitlines() if line.startswith("Max address space"))
    assert line.split()[3] == str(2 << 30)


def test_an_exception_in_the_comparison_is_an_error_and_no_no(tmp_path):
    packages = pool_module.grader_packages()
    code = f"""
import sys; sys.path.insert(0, {str(packages)!r})
from entrobench.rewards import worker
minerva = worker.Minerva()
assert minerva.compare(r"\\frac{{1}}{{3}}", r"\\frac{{1}}{{2}}") == "incorrect"
assert minerva.compare(r"\\frac{{1}}", "2") == "incorrect"
assert minerva.compare("(1,2)", "(1,3)") == "incorrect"
for failure in (MemoryError, RecursionError, ValueError, ZeroDivisionError):
    def fail(*_, **__): raise failure
    minerva._module.sympy.simplify = fail
    assert minerva.compare(r"\\frac{{1}}{{3}}", r"\\frac{{1}}{{2}}") == "error", failure
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_event_loop_runs_on_while_answers_hang(monkeypatch):
    monkeypatch.setattr(pool_module, "TIME_LIMIT_SECONDS", 1.5)
    grade(r"\boxed{1/2}", "0.5")

    async def turns_and_verdicts():
        loop = asyncio.get_running_loop()
        # A gold as large as the answer: nothing decides without the processes
        jobs = [
            loop.run_in_executor(None, grade, rf"\boxed{{{HANGS}+{n}}}", "3^{3^{3^{3^{3}}}}")
            for n in range(2)
        ]
        waiting = asyncio.gather(*jobs)
        turns = 0
        while not waiting.done():
            await asyncio.sleep(0.01)
            turns += 1
        return turns, [job.verdict for job in await waiting]

    turns, verdicts = asyncio.run(turns_and_verdicts())
    assert verdicts == ["error", "error"]
    assert turns > 10, "of 150 in an answer's limit; a loop that waits itself makes one or two"


def test_a_forked_child_has_processes_of_its_own():
    assert grade(r"\boxed{1/2}", "0.5").verdict == "correct"
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        verdict = grade(r"\boxed{\frac{3}{6}}", "0.5").verdict
        pool().stop()
        os.write(write, verdict.encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 100) == b"correct"
    assert grade(r"\boxed{\frac{4}{8}}", "0.5").verdict == "correct"


def test_text_that_looks_like_code_is_not_run(tmp_path):
    canary = tmp_path / "canary"
    open_it = f"open('{canary}','w').write('x')"
    codes = [
        f"__import__('os').system('touch {canary}')",
        open_it,
        f'eval("{open_it}")',
        f"\\input{{{canary}}}",
        f"[x for x in [{open_it}]]",
        f"\\write18{{touch {canary}}}",
        f"sympify({open_it!r})",
        f"lambda: {open_it}",
        "().__class__.__bases__[0].__subclasses__()",
        f"$(touch {canary})$",
    ]
    for code in codes:
        for gold in ("5", r"\frac{1}{2}", code):
            for name in ("math500", "minerva", "olympiadbench"):
                GRADERS[name](rf"\boxed{{{code}}}", gold)
    assert not canary.exists()


COMMANDS = r"""
    \frac \sqrt \boxed{ \pi \infty \text{ \left( \right] \pm \cup \{ \} \begin{pmatrix} \end{pmatrix} \\
    \times \int \lim_ \sum_{n=1}^ \log_ 10^ e3 Answer: & é −
"""
ALPHABET = [*"0123456789+-*/^_=(){}[],.;:$% ~!<>|'\"\\abexyn\n\x00\ud800", *COMMANDS.split()]


def generated(count, seed):
    rng = random.Random(seed)
    return ["".join(rng.choices(ALPHABET, k=rng.randint(0, 14))) for _ in range(count)]


def test_100_000_generated_strings_through_extraction_and_the_integer_path():
    for text in generated(100_000, seed=0):
        extract_boxed(text)
        extract_answer_line(text)
        extract_boxed("\\boxed{" + text + "}")
        canonical_integer(text)


def test_20_000_generated_pairs_through_the_spelling_the_units_and_the_guard():
    texts = generated(20_000, seed=2)
    for answer, gold in pairwise(texts):
        settled = settle(answer, gold, PLAIN)
        assert isinstance(settled, tuple) or settled in ("correct", "incorrect")


def test_generated_strings_through_the_processes(monkeypatch):
    monkeypatch.setattr(pool_module, "TIME_LIMIT_SECONDS", 1.0)
    texts = generated(2000, seed=1)
    rule = {"is_multiple_answer": True, "answer_type": "Tuple", "unit": "km", "error": "0.1"}
    golds = [
        "5",
        r"\frac{1}{2}",
        "(1,2)",
        {"answer": "(1,2),(3,4)"} | rule,
        {"answer": "(0,1]", "answer_type": "Interval"},
    ]
    names = ["math500", "minerva", "math500", "olympiadbench", "olympiadbench"]
    for kind, (gold, name) in enumerate(zip(golds, names, strict=True)):
        pairs = [("\\boxed{" + text + "}", gold) for text in texts[kind::5]]
        grades = grade_many(GRADERS[name], pairs)
        assert {g.verdict for g in grades} <= {"correct", "incorrect", "error"}
        # a random string is not right, and hardly ever undecided
        assert sum(g.verdict == "error" for g in grades) < 0.1 * len(grades)
        assert sum(g.verdict == "correct" for g in grades) < 0.02 * len(grades)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40), st.text(max_size=20))
def test_any_text_against_any_text_has_a_verdict(answer, gold):
    assert compare(answer, gold)[0] in ("correct", "incorrect", "error")


@pytest.mark.parametrize("filler", [r"\boxed{", "x{", "Answer: ", "Answer: 1\n", "\x00", "9"])
def test_a_completion_of_a_megabyte(filler):
    text = filler * (1_000_000 // len(filler)) + "\n"
    started = time.monotonic()
    assert grade(text + r"\boxed{3}", "3").verdict == "correct"
    assert grade(text + "Answer: 3", "3", extraction="answer_line").verdict == "correct"
    assert time.monotonic() - started < 10


def test_the_number_of_processes(monkeypatch):
    monkeypatch.delenv(PROCESSES_VARIABLE, raising=False)
    assert 2 <= pool_size() <= 4
    monkeypatch.setenv(PROCESSES_VARIABLE, "7")
    assert pool_size() == 7
    monkeypatch.setenv(PROCESSES_VARIABLE, "many")
    with pytest.raises(ConfigError, match="expected a number from 1 to 256, found 'many'"):
        pool_size()
