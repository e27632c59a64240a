"""HumanEval: what of a completion is run, published verdicts, programs that attack grader and machine.

A program is run in bubblewrap or not at all; without it those tests skip and say so.
"""

import gzip
import json
import os
import platform
import shutil
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from command_line import entrobench
from grading_data import HUMANEVAL_OUTPUTS, program_gold, program_outputs

from entrobench.data.schema import Problem
from entrobench.errors import ConfigError, MissingInput, UnsupportedPlatform
from entrobench.evaluation.golds import grader_gold
from entrobench.rewards import code_sandbox
from entrobench.rewards.code_sandbox import require_sandbox
from entrobench.rewards.graders import GRADERS, grade_many, require_grader
from entrobench.rewards.humaneval import extract_code
from entrobench.rewards.in_sandbox import plain, value_of

pytestmark = pytest.mark.slow

PROMPT = 'import math\n\n\ndef helper(x):\n    return x + 1\n\n\ndef f(x):\n    """f(1) == 2"""\n'
TEST = "def check(candidate):\n    assert candidate(1) == 2\n    assert abs(candidate(2.5) - 3.5) < 1e-6\n"
GOLD = {"prompt": PROMPT, "test": TEST, "entry_point": "f"}
RIGHT = "def f(x):\n    return x + 1\n"


def verdict(completion, gold=GOLD):
    return GRADERS["humaneval"](completion, gold).verdict


@pytest.mark.parametrize(
    ("completion", "code", "is_whole"),
    [
        ("    return x\n", "    return x\n", False),
        ("\n    return x\n\ndef g(): pass", "\n    return x\n", False),
        ("    return x\n# So", "    return x", False),
        ("    return x\nprint(f(1))", "    return x", False),
        ("    return x\n```\nIt adds. ```python\ndef f(): 0\n```", "    return x\n", False),
        ("Sure:\n```python\ndef f(x):\n    return x\n```\nDone", "def f(x):\n    return x", True),
        ("```\nimport os\ndef f(x): 1\n```\n```python\nprint(f(1))\n```", "import os\ndef f(x): 1", True),
        ("```python\ndef f(x): 1\n```\nBetter:\n```py\ndef f(x): 2\n```", "def f(x): 2", True),
        ("```python\ndef f(x):\n    return", "def f(x):\n    return", True),
        ("```python\n    return x\n```", "    return x", False),
        ("import os\n\ndef f(x):\n    return x\n", "import os\n\ndef f(x):\n    return x\n", True),
        ("def fg(x):\n    return x\n", "def fg(x):\n    return x\n", False),
        ("def other(x): 1\ndef f(x): 2", "def other(x): 1\ndef f(x): 2", True),
        ("", "", False),
    ],
)
def test_what_of_a_completion_is_run(completion, code, is_whole):
    assert extract_code(completion, "f") == (code, is_whole)


@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, -(10**300), 1.5, float("inf"), "a\n\ud800é", b"\x00", 1j, [], (), {}, set(),
        [1, (2, [3])],
        {"a": {1: {2.5, "x"}}, (1, 2): frozenset({3})}, [True, 1, 1.0], {"list": [1]},
    ],
)  # fmt: skip
def test_plain_values_cross_the_socket(value):
    crossed = value_of(json.loads(json.dumps(plain(value))))
    assert (crossed, repr(crossed)) == (value, repr(value))


def test_what_is_no_plain_value_equals_nothing():
    class Everything:
        def __eq__(self, other):
            return True

    assert Everything() == 5
    assert value_of(plain(Everything())) != 5
    assert value_of(plain([range(3)])) != [range(3)]


@pytest.mark.parametrize(
    "completion",
    [
        RIGHT,
        f"Here it is.\n```python\n{RIGHT}```\nIt adds one.",
        "    return x + 1\n",
        "    return helper(x)\n\n\ndef f(x):\n    return None\n",
        "```python\ndef f(x):\n    return math.floor(x) + helper(x - math.floor(x))\n```",
        "from __future__ import annotations\nfrom os import path\ndef f(x: Any):\n    return x + 1\n",
        "def f(x):\n    print('passed')\n    return x + 1\n",
        RIGHT + "\nif __name__ == '__main__':\n    1 / 0\n",
    ],
)
@pytest.mark.usefixtures("sandbox")
def test_right_programs(completion):
    assert verdict(completion) == "correct"


FAKE = "def f(x):\n    return 0\n"


def on_each_descriptor(data):
    """Code that writes `data` wherever its process can write."""
    return f"import os\nfor n in range(32):\n    try: os.write(n, {data})\n    except OSError: pass\n"


@pytest.mark.parametrize(
    "completion",
    [
        "",
        "def f(x):\n    return x\n",
        "def f(x) return x + 1",
        "def f(x):\n    raise ValueError\n",
        # Ends before the tests, or in them
        "import sys\nsys.exit(0)\n" + RIGHT,
        "import os\nos._exit(0)\n" + RIGHT,
        "def f(x):\n    raise SystemExit(0)\n",
        "def f(x):\n    import os\n    os._exit(0)\n",
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n" + RIGHT,
        "def f(x):\n    import ctypes\n    ctypes.string_at(0)\n",
        # Replaces what the tests use
        "import builtins\nbuiltins.abs = lambda x: 0\nbuiltins.AssertionError = Exception\n" + FAKE,
        "def check(candidate): pass\n" + FAKE,
        "class A:\n    __eq__ = lambda s, o: True\n    __sub__ = lambda s, o: 0\ndef f(x):\n    return A()\n",
        "class A(int):\n    def __eq__(s, o): return True\ndef f(x):\n    return A(0)\n",
        "import sys\nsys.stdout.write('started\\npassed\\n')\nsys.stderr.write('passed\\n')\n" + FAKE,
        # Answers in the place of the runner, on every descriptor that it has
        on_each_descriptor("b'\"passed\"\\n' * 9") + FAKE,
        on_each_descriptor("b'started\\npassed\\n'") + FAKE,
        on_each_descriptor("b'[' * 99999 + b'\\n'") + FAKE,
        "import gc\nfor o in gc.get_objects():\n    if isinstance(o, dict): o['check'] = o['passed'] = 1\n"
        + FAKE,
    ],
)
@pytest.mark.usefixtures("sandbox")
def test_wrong_programs_and_programs_that_fake(completion):
    assert verdict(completion) == "incorrect"


@pytest.mark.parametrize(
    "step",
    [
        "open('/etc/passwd').read()",
        "open('/proc/self/environ').read()",
        "open(os.path.expanduser('~/.bashrc')).read()",
        "open({in_home!r}).read()",
        "os.environ['HOME']",
        "os.environ['CANARY']",
        "open({canary!r}).read()",
        "open({canary!r}, 'w').write('x')",
        "open('/written', 'w').write('x')",
        "open('/tmp/written', 'w').write('x')",
        "tempfile.TemporaryFile().write(b'x')",
        "open('/usr/written', 'w').write('x')",
        "os.mkdir('/usr/folder')",
        "os.unlink('/in_sandbox.py')",
        "os.write(os.memfd_create('x'), b'x')",
        "socket.create_connection(('127.0.0.1', {port}), 2)",
        "socket.create_connection(('1.1.1.1', 53), 2)",
        "socket.getaddrinfo('example.com', 80)",
        "subprocess.run(['/usr/bin/true'])",
        "os.system('true') == 0 or 1 / 0",
        "os.fork() or os._exit(0)",
        "[threading.Thread(target=print).start()]",
        "multiprocessing.Process(target=print).start()",
        "ctypes.CDLL(None).unshare(0x10000000) and 1 / 0",
        "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9, 9))",
        "bytearray(2 << 30)",
        "'x' * (2 << 30)",
        "importlib.import_module('entrobench')",
        "importlib.import_module('numpy')",
    ],
)
@pytest.mark.usefixtures("sandbox")
def test_a_program_that_needs_what_is_forbidden_fails(tmp_path, monkeypatch, step):
    in_home = Path.home() / f".entrobench-test-{os.getpid()}"
    in_home.write_text("x")
    monkeypatch.setenv("CANARY", "x")
    server = socket.create_server(("127.0.0.1", 0))
    step = step.replace("{in_home!r}", repr(str(in_home))).replace(
        "{canary!r}", repr(str(tmp_path / "canary"))
    )
    step = step.replace("{port}", str(server.getsockname()[1]))
    (tmp_path / "canary").write_text("unchanged")
    modules = "ctypes, importlib, multiprocessing, os, resource, socket, subprocess, tempfile, threading"
    try:
        assert verdict(f"import {modules}\ndef f(x):\n    {step}\n    return x + 1\n") == "incorrect"
        # The step alone is to blame
        assert verdict(f"import {modules}\ndef f(x):\n    return x + 1\n") == "correct"
    finally:
        in_home.unlink()
        server.close()
    assert (tmp_path / "canary").read_text() == "unchanged"


def sandboxes_left():
    """Sandboxes of this process, or of nobody, that still run after a time to die."""
    for _ in range(50):
        processes = psutil.process_iter(["name", "ppid", "status"])
        left = [
            process
            for process in processes
            if process.info["name"] == "bwrap"
            and process.info["ppid"] in (1, os.getpid())
            and process.info["status"] != psutil.STATUS_ZOMBIE
        ]
        if not left:
            return []
        time.sleep(0.1)
    return left


WITHOUT_AN_END = [
    "while True: pass\n",
    "import time\ntime.sleep(1000)\n",
    "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass\n",
    "x = []\nwhile True: x.append(bytearray(1 << 20))\n",
    "import sys\nwhile True: print('x' * 10000)\n",
    "while True:\n    " + on_each_descriptor("b'x' * 65536").replace("\n", "\n    ") + "\n",
    "import signal\nfor n in range(1, 32):\n    if n not in (9, 19): signal.signal(n, signal.SIG_IGN)\n"
    "while True: pass\n",
    "import re\nre.match('(a+)+$', 'a' * 50 + 'b')\n",
    "9 ** 9 ** 9\n",
    "import sys\nsys.setrecursionlimit(10 ** 9)\ndef g(): return g()\ng()\n",
]


@pytest.mark.usefixtures("sandbox")
def test_programs_without_an_end_are_stopped_and_leave_nothing(monkeypatch):
    # All at once, so that each has to wait for a core
    monkeypatch.setattr(code_sandbox, "WALL_SECONDS", 10.0)
    started = time.monotonic()
    answers = [program + RIGHT for program in WITHOUT_AN_END]
    with ThreadPoolExecutor(len(answers)) as threads:
        found = dict(zip(answers, threads.map(verdict, answers), strict=True))
    assert found == dict.fromkeys(answers, "incorrect")
    # The limit, and the sandboxes' start and end on a crowded machine
    assert time.monotonic() - started < 10 + 20
    assert not sandboxes_left()


@pytest.mark.usefixtures("sandbox")
def test_processor_time_has_a_limit_of_its_own(monkeypatch):
    monkeypatch.setattr(code_sandbox, "WALL_SECONDS", 100.0)
    started = time.monotonic()
    assert verdict("def f(x):\n    while True: pass\n") == "incorrect"
    # 5 s of processor time, which a crowded machine takes longer to give
    assert 4 < time.monotonic() - started < 60


@pytest.mark.usefixtures("sandbox")
def test_a_sandbox_that_does_not_start_is_an_error(monkeypatch):
    monkeypatch.setattr(code_sandbox, "WALL_SECONDS", 0.0)
    assert verdict(RIGHT) == "error"
    assert not sandboxes_left()


@pytest.mark.parametrize(
    ("gold", "problem"),
    [
        (GOLD | {"test": "def check(candidate) assert"}, "its tests do not run: SyntaxError"),
        (GOLD | {"test": "pass"}, "its tests do not run: KeyError: 'check'"),
        (GOLD | {"prompt": "def f(x):"}, "its tests do not run: IndentationError"),
        (GOLD | {"entry_point": "f(1); g"}, "expected texts and a function's name"),
        (GOLD | {"test": None}, "expected texts and a function's name"),
        ({"prompt": PROMPT}, "expected an object with prompt, test and entry_point"),
    ],
)
@pytest.mark.usefixtures("sandbox")
def test_a_gold_that_is_none_is_named(gold, problem):
    with pytest.raises(ConfigError, match=problem):
        verdict(RIGHT, gold)


@pytest.mark.usefixtures("sandbox")
def test_the_published_verdicts_on_164_solutions(real_path):
    real_path(HUMANEVAL_OUTPUTS)
    rows = program_outputs()
    started = time.monotonic()
    grades = grade_many(GRADERS["humaneval"], [(row["solution"], program_gold(row)) for row in rows])
    assert time.monotonic() - started < 120
    differing = [
        row
        for row, grade in zip(rows, grades, strict=True)
        if (grade.verdict == "correct") != row["is_solved"]
    ]
    assert len(rows) == 164
    # Its function calls math.ceil and imports math in another function alone: a NameError, published as
    # solved. It passes where something else has imported math into its namespace
    (leaked,) = differing
    assert (leaked["task_id"], leaked["is_solved"]) == ("HumanEval/133", True)
    assert verdict("import math\n" + leaked["solution"], program_gold(leaked)) == "correct"


@pytest.mark.usefixtures("sandbox")
def test_the_canonical_solutions_pass(real_path):
    with gzip.open(real_path("humaneval/HumanEval.jsonl.gz"), "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    answers = [
        (row["canonical_solution"], program_gold(row)) if number % 2 else
        (f"Sure!\n```python\n{row['prompt']}{row['canonical_solution']}\n```", program_gold(row))
        for number, row in enumerate(rows)
    ]  # fmt: skip
    grades = grade_many(GRADERS["humaneval"], answers)
    assert [grade.verdict for grade in grades] == ["correct"] * 164


@pytest.mark.usefixtures("sandbox")
def test_the_command_and_a_problem_of_the_prepared_benchmark(tmp_path, capsys):
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = [{"completion": RIGHT, "gold": GOLD}, {"completion": FAKE, "gold": json.dumps(GOLD)}]
    source.write_text("\n".join(map(json.dumps, lines)))
    assert entrobench("grade", "--benchmark", "humaneval", source, target) == 0
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert [(row["verdict"], row["second_verdict"]) for row in rows] == [("correct",) * 2, ("incorrect",) * 2]
    assert "1 correct, 1 incorrect, 0 error" in capsys.readouterr().out
    problem = Problem(
        id="1",
        benchmark="humaneval",
        problem=PROMPT,
        gold="s",
        extra=GOLD,
    )
    assert verdict(RIGHT, grader_gold(problem)) == "correct"


@pytest.fixture
def unchecked():
    """A process that has not looked for a sandbox yet."""
    require_sandbox.cache_clear()
    yield
    require_sandbox.cache_clear()


@pytest.fixture
def nothing_runs(monkeypatch):
    """Fails where anything is started."""
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))


@pytest.mark.usefixtures("unchecked", "nothing_runs")
def test_without_bubblewrap_nothing_is_run(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(MissingInput, match=r"not installed(.|\n)*apt-get install bubblewrap"):
        require_grader("humaneval")
    with pytest.raises(MissingInput, match="not installed"):
        verdict(RIGHT)


@pytest.mark.usefixtures("unchecked", "nothing_runs")
def test_on_another_machine_nothing_is_run(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(
        UnsupportedPlatform, match="expected Linux on x86_64 or aarch64, found linux on riscv64"
    ):
        verdict(RIGHT)


@pytest.mark.usefixtures("unchecked")
def test_where_no_namespace_can_be_made_nothing_is_run(monkeypatch, tmp_path):
    bwrap, canary = tmp_path / "bwrap", tmp_path / "canary"
    bwrap.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    bwrap.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(bwrap))
    with pytest.raises(
        UnsupportedPlatform, match=r"No permissions to create(.|\n)*user\.max_user_namespaces"
    ):
        verdict(f"open({str(canary)!r}, 'w').write('x')\n" + RIGHT)
    assert not canary.exists()


@pytest.mark.usefixtures("sandbox")
def test_sixteen_threads_at_once():
    found = []
    threads = [threading.Thread(target=lambda: found.append(verdict(RIGHT))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["correct"] * 16
