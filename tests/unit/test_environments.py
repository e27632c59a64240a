"""Environments: what a model's code can do to one, what is left of it, and how conversations end."""

import asyncio
import os
import signal
import time
from dataclasses import replace

import psutil
import pytest
from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder

from entrobench.cells import resolve
from entrobench.configs import Configs
from entrobench.data.smoke_shell import PROMPT, benchmark_problems, training_rows
from entrobench.environments import conversation, server
from entrobench.environments.conversation import NO_CODE, NO_OUTPUT, TurnLimits, code_of, shown, turn_text
from entrobench.environments.rounds import Said, Setting, converse
from entrobench.environments.server import EnvironmentFailed, Pool, try_task
from entrobench.environments.tasks import tasks_of
from entrobench.environments.worlds import smoke_shell, world_kind
from entrobench.errors import MissingInput, UnknownName
from entrobench.models.tiny_agent import CONTEXT_LENGTH, LIMITS, PHRASES
from entrobench.models.tokenizer import build_tokenizer
from entrobench.paths import repository_root
from entrobench.provenance.code import sampling_code, training_code

KIND = world_kind("smoke_shell")
TASK = "hard/3"
STATE = smoke_shell.State(TASK)


# Whether there is a sandbox is found without this code: where an environment does not start, tests fail
pytestmark = pytest.mark.usefixtures("sandbox")


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(PHRASES, CONTEXT_LENGTH)


def processes_of(pool):
    """The processes in the pool's sandbox, episodes last."""
    return psutil.Process(pool._server._process.pid).children(recursive=True)


def episodes_of(pool):
    """Those of them that have no children."""
    found = processes_of(pool)
    parents = {process.ppid() for process in found}
    return [process for process in found if process.pid not in parents]


def is_running(process):
    """Not one that has ended and that the system's init has not looked at yet."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def in_pool(use, size=4):
    """What `use(pool)` returns; afterwards nothing of the pool is left running."""

    async def run():
        pool = Pool(KIND, size)
        try:
            result = await use(pool)
            left = processes_of(pool)
        finally:
            pool.close()
        return result, left

    result, left = asyncio.run(run())
    deadline = time.monotonic() + 10
    while any(map(is_running, left)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [process for process in left if is_running(process)]
    return result


def execute(*cells):
    """What the cells show, in one episode."""

    async def use(pool):
        async with pool.episode(TASK) as episode:
            return [(await episode.execute(cell)).text for cell in cells]

    return in_pool(use)


# -- what a model's code can do ------------------------------------------------------------------------------


def test_a_cell_shows_what_a_notebook_shows():
    shown_ = execute("a = 20", "a + 1", 'print("hi")\na', "", "a ==", "a / 0", 'find("Nobody")')
    assert shown_ == [
        "", "21", "hi\n20", "", "SyntaxError: invalid syntax", "ZeroDivisionError: division by zero",
        "no such name",
    ]  # fmt: skip


FORBIDDEN = [
    ("import os\nos.fork()", "PermissionError: [Errno 1] Operation not permitted"),
    ("import subprocess\nsubprocess.run(['/bin/true'])", "PermissionError"),
    ("import os\nos.kill(1, 9)", "PermissionError: [Errno 1] Operation not permitted"),
    ("import os\nos.kill(-1, 9)", "PermissionError: [Errno 1] Operation not permitted"),
    ("import os\n[os.kill(p, 9) for p in range(2, 50)]", "PermissionError"),
    ("open('/x', 'w')", "Read-only file system"),
    ("open('/usr/x', 'w')", "Read-only file system"),
    ("import os\nos.listdir('/home')", "No such file or directory"),
    ("import os\nos.listdir('/proc')", "No such file or directory"),
    ("import socket\nsocket.create_connection(('192.0.2.1', 80), 1)", "Network is unreachable"),
    ("x = bytearray(10**10)", "MemoryError"),
    ("def f(): f()\nf()", "RecursionError"),
    ("raise SystemExit", "SystemExit"),
    ("import sys\nsys.exit(3)", "SystemExit: 3"),
    ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ("print('\\x00\\x1b[2J' + chr(0xD800))", "\x00\x1b[2J?"),
    ("import threading\nthreading.Thread(target=print, args=('in a thread',)).start()", "in a thread"),
    ("import os\nos.environ.get('HOME', 'no home')", "no home"),
]


@pytest.fixture(scope="module")
def shown_of_forbidden():
    """What each forbidden cell shows in an episode of its own, and what the next cell of that one does."""

    async def one(pool, code):
        async with pool.episode(TASK) as episode:
            return [(await episode.execute(cell)).text for cell in (code, "6 * 7")]

    async def use(pool):
        return await asyncio.gather(*(one(pool, code) for code, _ in FORBIDDEN))

    return in_pool(use, size=len(FORBIDDEN))


@pytest.mark.parametrize("number", range(len(FORBIDDEN)), ids=[code for code, _ in FORBIDDEN])
def test_what_code_must_not_do_it_cannot(number, shown_of_forbidden):
    shown_, after = shown_of_forbidden[number]
    assert FORBIDDEN[number][1] in shown_
    assert after == "42", "the episode goes on"


def test_a_hundred_megabytes_of_output_are_cut():
    (shown_,) = execute("print('x' * 10**8)\n[print('y' * 1000) for _ in range(1000)]")
    assert shown_ == "x" * smoke_shell.World.OUTPUT_CHARACTERS


def test_code_without_an_end_is_interrupted_and_code_that_holds_on_is_killed(monkeypatch):
    quick = replace(KIND, limits=replace(KIND.limits, seconds=0.3))
    monkeypatch.setattr(server, "GRACE_SECONDS", 1.0)

    async def use(pool):
        pool.kind = quick
        async with pool.episode(TASK) as episode:
            interrupted = (await episode.execute("while True: pass")).text
            after = (await episode.execute("6 * 7")).text
        started = time.monotonic()
        with pytest.raises(EnvironmentFailed, match="no answer to execute"):
            async with pool.episode(TASK) as episode:
                await episode.execute("import signal\nsignal.signal(14, signal.SIG_IGN)\nwhile True: pass")
        assert time.monotonic() - started < 10
        async with pool.episode(TASK) as episode:
            return interrupted, after, (await episode.execute("1")).text

    assert in_pool(use) == ("no end after 0.3 s", "42", "1")


@pytest.mark.parametrize("code", ["import os\nos._exit(0)", "import ctypes\nctypes.string_at(0)"])
def test_a_process_that_ends_is_the_end_of_its_episode_only(code):
    async def use(pool):
        with pytest.raises(EnvironmentFailed, match="its process ended during execute"):
            async with pool.episode(TASK) as episode:
                await episode.execute(code)
        async with pool.episode(TASK) as episode:
            return (await episode.execute("6 * 7")).text

    assert in_pool(use) == "42"


def test_what_an_episode_changes_no_other_sees():
    async def use(pool):
        async with pool.episode(TASK) as first, pool.episode(TASK) as second:
            await first.execute("import builtins\nbuiltins.print = None\nimport ast\nast.parse = None")
            await first.execute(f"pay({STATE.number}, 1)")
            shown_ = (await second.execute("print(1)")).text
        async with pool.episode(TASK) as third:
            return shown_, (await third.execute("print(2)")).text, (await third.goals()).passed

    assert in_pool(use) == ("1", "2", 0)


def test_a_task_that_is_none_fails_its_episode():
    async def use(pool):
        with pytest.raises(
            EnvironmentFailed, match="reset: ValueError: no task 'simple/1': expected easy or"
        ):
            async with pool.episode("simple/1"):
                pass

    in_pool(use)


def test_200_environments_that_are_killed_at_once_cost_their_episodes_and_nothing_else():
    async def one(pool, killed):
        try:
            async with pool.episode(TASK) as episode:
                await episode.execute("1")
                await killed.wait()
                await episode.execute("2")
        except EnvironmentFailed:
            return "failed"
        return "survived"

    async def use(pool):
        killed = asyncio.Event()
        await pool.server()
        tasks = [asyncio.create_task(one(pool, killed)) for _ in range(200)]
        while len(episodes := episodes_of(pool)) < 200:
            await asyncio.sleep(0.5)
        for process in episodes:
            process.send_signal(signal.SIGKILL)
        killed.set()
        found = await asyncio.gather(*tasks)
        async with pool.episode(TASK) as episode:
            return found.count("failed"), (await episode.execute("6 * 7")).text, pool.restarts

    assert in_pool(use, size=200) == (200, "42", 0)


def test_a_sandbox_that_dies_takes_its_episodes_and_is_started_anew():
    async def use(pool):
        async with pool.episode(TASK) as episode:
            left = processes_of(pool)
            os.killpg(pool._server._process.pid, signal.SIGKILL)
            while any(map(is_running, left)):
                await asyncio.sleep(0.01)
            with pytest.raises(EnvironmentFailed, match="its process ended"):
                await episode.execute("1")
        async with pool.episode(TASK) as episode:
            return (await episode.execute("6 * 7")).text, pool.restarts

    assert in_pool(use) == ("42", 1)


def test_episodes_beyond_the_pools_size_wait():
    async def one(pool, running, full):
        async with pool.episode(TASK) as episode:
            running.append(1)
            most = len(running)
            if most == 3:
                full.set()
            await full.wait()  # however slow an environment is to start, three run at once
            await episode.execute("1")
            running.pop()
            return most

    async def use(pool):
        running, full = [], asyncio.Event()
        return max(await asyncio.gather(*(one(pool, running, full) for _ in range(20))))

    assert in_pool(use, size=3) == 3


def test_512_environments_at_once_take_no_more_memory_the_second_time():
    """Each is a forked process that shares what the first has loaded."""

    async def wave(pool):
        async def one(number):
            async with pool.episode(f"hard/{number}") as episode:
                await episode.execute(f'find("{STATE.name}")')
                arrived.append(number)
                if len(arrived) == 512:
                    full.set()
                await full.wait()
                return await episode.goals()

        arrived, full = [], asyncio.Event()
        tasks = [asyncio.create_task(one(number)) for number in range(512)]
        await full.wait()
        private = sum(p.memory_full_info().uss for p in processes_of(pool))
        assert len(await asyncio.gather(*tasks)) == 512
        return private, psutil.Process().memory_info().rss

    async def use(pool):
        await wave(pool)
        return [await wave(pool) for _ in range(2)]

    (in_first, here_first), (in_second, here_second) = in_pool(use, size=512)
    assert in_first < 512 * 8e6, "own memory of all of them"
    assert in_second < 1.1 * in_first
    assert here_second < 1.1 * here_first


def test_without_a_sandbox_nothing_is_run(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingInput, match="bubblewrap"):
        try_task(KIND, TASK)
    with pytest.raises(UnknownName, match="smoke_shell"):
        world_kind("smoke_shel")


# -- the small world -----------------------------------------------------------------------------------------


def test_an_errand_is_done_where_the_right_one_got_the_right_amount_on_the_right_day():
    number, amount, day = STATE.number, STATE.amount, STATE.calendar[STATE.number]

    def passed(*lines):
        world = smoke_shell.World(TASK)
        functions = world.state.functions()
        for name, *arguments in lines:
            functions[name](*arguments)
        assert world.is_done() is (("finish",) in lines)
        return world.goals()

    assert passed(("pay", number, amount), ("book", number, day), ("finish",)) == (3, 3)
    assert passed(("pay", number, amount), ("book", number, day)) == (3, 3)
    assert passed(("pay", number, amount + 1), ("book", number, day)) == (2, 3)
    assert passed(("pay", number, amount), ("pay", number, amount), ("book", number, day)) == (1, 3)
    assert passed(("finish",)) == (0, 3)


def test_tasks_of_training_and_benchmarks_are_different_ones():
    rows = training_rows()
    train = {row["extra_info"]["task"] for row in rows}
    benchmarks = [problem["id"] for level in ("easy", "medium", "hard") for problem in
                  benchmark_problems(f"smoke_shell_{level}")]  # fmt: skip
    assert (len(train), len(benchmarks), len(set(benchmarks))) == (1500, 216, 216)
    assert not train & set(benchmarks)
    assert rows[0]["prompt"][1]["content"].startswith(tasks_of("smoke_shell", "train")[0].instruction)
    assert PROMPT["messages"][1]["content"].startswith("{{problem}}")


# -- conversations -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```python\na\n```", "a"),
        ("First ```python\na\n``` then\n```py\nb\n\n```", "a\nb\n"),
        ("```\na\n```", "a"),
        ("```python\na", "a"),
        ("<think>```python\na\n```</think>```python\nb\n```", "b"),
        ("<think>```python\na\n```", None),
        ("no code", None),
        ("```python\n\n```", None),
    ],
)
def test_the_code_of_a_turn_is_its_python_blocks(text, code):
    assert code_of(text) == code


def test_what_is_shown_is_cut_by_tokens(tokenizer):
    assert shown(" \n", tokenizer, 5) == NO_OUTPUT
    assert shown("12", tokenizer, 5) == "12"
    cut = shown("abcdefgh", tokenizer, 5)
    assert cut == "abcde" + conversation.CUT
    assert shown("x" * 10**7, tokenizer, 3) == "xxx" + conversation.CUT


def test_a_turn_between_two_generations_is_the_same_in_training_and_evaluation(tokenizer):
    builder = create_continuous_token_builder(tokenizer, hf_model_type="qwen2")
    messages = [{"role": "user", "content": "Pay Ann 5."}]
    runtime = builder.build_initial_tokens(messages)
    generated = tokenizer("Surely.\n<|im_end|>", add_special_tokens=False)["input_ids"]
    before = [*messages, {"role": "assistant", "content": "Surely.\n"}]
    after = [*before, {"role": "user", "content": "42"}]
    merged = builder.merge_context_tokens(before, after, runtime + generated)
    here = "Surely.\n<|im_end|>" + turn_text(tokenizer, "42")
    assert tokenizer.decode(merged.token_ids[len(runtime) :]) == here
    assert merged.token_ids[len(runtime) :] == tokenizer(here, add_special_tokens=False)["input_ids"]


def outcomes(scripts, tokenizer, **limits):
    """How scripted conversations end. scripts: for each its turns; None where a turn has no end mark."""

    def speak(turns):
        said = [scripts[turn.number][turn.turn - 1] for turn in turns]
        return [Said(text or "", 3, text is not None) for text in said]

    limits = TurnLimits(**{"turns": 3, "turn_tokens": 24, "observation_tokens": 16} | limits)
    setting = Setting(KIND, tokenizer, limits, CONTEXT_LENGTH, {})
    return converse([(TASK, "ask ")] * len(scripts), setting, speak)


def fenced(code):
    return f"```python\n{code}\n```"


def test_conversations_end_as_they_should(tokenizer):
    number, amount, day = STATE.number, STATE.amount, STATE.calendar[STATE.number]
    found = outcomes(
        [
            [fenced(f"pay({number}, {amount})\nbook({number}, {day})\nfinish()")],
            [fenced(f"pay({number}, {amount})"), fenced("finish()")],
            [fenced(f"pay({number}, {amount})\nbook({number}, {day})")] * 3,
            ["nothing"] * 3,
            [None],
            [fenced("import os\nos._exit(1)")],
        ],
        tokenizer,
    )
    assert [each.outcome.ending for each in found] == [
        "completed", "completed", "turns", "turns", "cut", "failed",
    ]  # fmt: skip
    assert [each.outcome.is_success for each in found] == [True, False, False, False, False, False]
    assert [round(each.outcome.reward, 2) for each in found] == [1, 0.67, 0, 0, 0, 0]
    assert [each.turns for each in found] == [1, 2, 3, 3, 1, 1]
    assert found[3].text.count(NO_CODE) == 2, "after the last turn nobody reads it"
    assert found[1].text == (
        fenced(f"pay({number}, {amount})") + "<|im_end|>" + turn_text(tokenizer, NO_OUTPUT)
        + fenced("finish()") + "<|im_end|>"
    )  # fmt: skip
    assert found[5].outcome.failure == "its process ended during execute"


def test_a_conversation_ends_where_the_context_does(tokenizer):
    (found,) = outcomes([[fenced("'ab' * 40")] * 9], tokenizer, turns=9, observation_tokens=60)
    assert found.outcome.ending == "context"
    assert 1 < found.turns < 9
    assert LIMITS.turns == 6


def test_what_a_cell_is_done_in_is_part_of_its_code():
    configs = Configs(repository_root() / "configs")

    def codes(name, scale):
        cell = resolve(name, scale, configs, repository_root() / "results")
        return training_code(cell), sampling_code(cell)

    for code in codes("repo/appworld-8b/loop/seed0", "smoke"):
        assert "environment smoke_shell" in code
        assert "requirements/appworld.lock" not in code
    for code in codes("repo/appworld-8b/loop/seed0", "paper"):
        assert {"environment appworld", "requirements/appworld.lock"} <= set(code)
    for code in codes("repo/aime-8b/loop/seed0", "paper"):
        assert not [part for part in code if "environment" in part or "appworld" in part]
