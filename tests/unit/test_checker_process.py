"""The process of a checker, with checkers made for the test in the place of ACEBench's."""

import os
import threading
import time

import pytest

from entrobench.errors import MissingInput
from entrobench.rewards import checker_process
from entrobench.rewards.checker_process import CheckerProcess

pytestmark = pytest.mark.slow

CALLS = [{"name": "f", "arguments": {"x": 1}}]


@pytest.fixture
def checker(tmp_path):
    """Makes a process whose checker is a function of `functions` and `calls` with the given body."""
    processes = []

    def start(body):
        (tmp_path / "model_eval").mkdir()
        source = f"import os, sys, time\ndef normal_checker(functions, calls, *rest):\n    {body}\n"
        (tmp_path / "model_eval/checker.py").write_text(source)
        processes.append(CheckerProcess("acebench", lambda: tmp_path))
        return processes[0]

    yield start
    for process in processes:
        process.stop()


def ask(process, *functions):
    return process.verdict(calls=CALLS, functions=functions, gold=[{}])


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        ("return {'valid': True}", "correct"),
        ("return {'valid': calls != [{'f': {'x': 1}}]}", "incorrect"),
        ("raise KeyError", "error"),
        ("return {}", "error"),
        ("return normal_checker(functions, calls)", "error"),
        ("return {'valid': len(bytearray(2 << 30))}", "error"),
        ("os._exit(1)", "error"),
        ("print('true'); return {'valid': False}", "incorrect"),
        ("return {'valid': 'site' in sys.modules or 'entrobench' in sys.modules}", "incorrect"),
    ],
)
def test_verdicts(checker, body, verdict):
    assert ask(checker(body)) == verdict


def test_a_check_without_end_is_killed_and_the_next_is_answered(checker, monkeypatch):
    monkeypatch.setattr(checker_process, "TIME_LIMIT_SECONDS", 1.0)
    process = checker("while functions: pass\n    return {'valid': True}")
    started = time.monotonic()
    assert ask(process, "loop") == "error"
    assert time.monotonic() - started < 10
    assert ask(process) == "correct"


def test_a_process_that_dies_once_is_asked_again(checker, tmp_path):
    first = tmp_path / "first"
    process = checker(
        "if not os.path.exists(functions[0]): open(functions[0], 'w').close(); os._exit(1)\n"
        "    return {'valid': True}"
    )
    assert ask(process, str(first)) == "correct"
    assert first.exists()


def test_threads_get_the_answers_to_their_own_questions(checker):
    process, wrong = checker("time.sleep(0.001); return {'valid': functions == [1]}"), []

    def work(number):
        for _ in range(50):
            if ask(process, number) != ("correct" if number == 1 else "incorrect"):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_forked_child_has_a_process_of_its_own(checker):
    process = checker("return {'valid': functions == [os.getppid()]}")
    assert ask(process, os.getpid()) == "correct"
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = int(ask(process, os.getpid()) != "correct")
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert ask(process, os.getpid()) == "correct"


def test_a_checker_that_cannot_be_loaded_is_named(tmp_path):
    process = CheckerProcess("acebench", lambda: tmp_path)
    with pytest.raises(MissingInput, match=r"acebench in .* cannot be loaded: ModuleNotFoundError"):
        ask(process)
