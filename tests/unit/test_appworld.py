"""AppWorld's own engine behind our interface, with tasks made here: its data are not to be had.

Skipped, saying so, where its environment (make venv-appworld) or a sandbox is not.
"""

import asyncio
import json
import subprocess
from pathlib import Path

import pytest
from command_line import entrobench

from entrobench.configs import Configs
from entrobench.data.benchmarks import load_benchmark
from entrobench.data.prompts import render_fields
from entrobench.data.training_sets import select
from entrobench.environments import worlds
from entrobench.environments.server import EnvironmentFailed, Pool, try_task
from entrobench.environments.worlds import APPWORLD_PYTHON, APPWORLD_ROOT, appworld_python, world_kind
from entrobench.errors import CorruptFile, MissingInput, PinMismatch
from entrobench.machine.site import Paths
from entrobench.paths import repository_root

CONFIGS = Configs(repository_root() / "configs")
LOGIN = (
    "password = apis.supervisor.show_account_passwords()[0]['password']\n"
    "token = apis.simple_note.login(username='ada.lane@example.com', password=password)['access_token']"
)


@pytest.fixture(scope="module")
def root(made_once):
    """A folder with `data` as APPWORLD_ROOT names it, made by the engine."""
    try:
        python = appworld_python()
    except MissingInput as error:
        pytest.skip(str(error))
    script = Path(__file__).parents[1] / "appworld_data.py"
    module = Path(worlds.__file__).with_name("appworld.py")

    def make(folder):
        command = [python, script, folder / "root", module]
        subprocess.run(command, check=True, capture_output=True, timeout=300)

    return made_once("appworld", make) / "root"


@pytest.fixture
def kind(root, monkeypatch, sandbox):
    """How its world is made."""
    monkeypatch.setenv(APPWORLD_ROOT, str(root))
    return world_kind("appworld")


@pytest.fixture(scope="module")
def found(root, made_once, sandbox):
    """What a pool of the world says of itself, and what several conversations with it show."""

    async def done(pool, task, *cells):
        async with pool.episode(task) as episode:
            seen = [await episode.execute(cell) for cell in cells]
            goals = await episode.goals()
            return [each.text for each in seen], seen[-1].is_done, [goals.passed, goals.total]

    async def run():
        pool = Pool(world_kind("appworld"), 8)
        try:
            said = (await pool.server()).description
            with pytest.raises(EnvironmentFailed, match=r"reset: .*doesn't exist"):
                async with pool.episode("ccccccc_1"):
                    pass
            answers = asyncio.gather(
                *(
                    done(pool, f"bbbbbb2_{number}", f"apis.supervisor.complete_task(answer={said_})")
                    for number, said_ in ((1, 1), (2, 2), (3, 1))
                )
            )
            note = "apis.simple_note.create_note(access_token=token, title={!r}, content='x')"
            right, wrong = note.format("Groceries 1"), note.format("Groceries")
            end = "apis.supervisor.complete_task()"
            return {
                "said": said,
                "answers": await answers,
                "note": await done(pool, "aaaaaa1_1", LOGIN, right, end),
                "wrong": await done(pool, "aaaaaa1_1", LOGIN, wrong, end),
                "forbidden": await done(
                    pool, "aaaaaa1_1", "import os\nos.fork()", "import os\nos._exit(1)", "exit()",
                    "print(open('/etc/passwd').read())", "raise SystemExit", "print(6 * 7)",
                ),
            }  # fmt: skip
        finally:
            pool.close()

    def make(folder):
        with pytest.MonkeyPatch.context() as context:
            context.setenv(APPWORLD_ROOT, str(root))
            (folder / "found.json").write_text(json.dumps(asyncio.run(run())))

    return json.loads((made_once("appworld-found", make) / "found.json").read_text())


def test_it_says_its_version_and_how_many_tasks_there_are(found):
    assert found["said"] == {
        "version": "0.1.3.post1",
        "tasks": {"train": 3, "test_normal": 6, "test_challenge": 3},
    }


def test_a_tasks_own_unit_tests_judge_it(found):
    texts, is_done, goals = found["note"]
    assert texts == ["Execution successful."] * 3
    assert is_done
    assert goals == [2, 2]
    _, is_done, goals = found["wrong"]
    assert is_done
    assert goals == [1, 2]
    assert [goals for _, _, goals in found["answers"]] == [[2, 2], [2, 2], [1, 2]]


def test_what_code_must_not_do_it_cannot(found):
    texts, is_done, goals = found["forbidden"]
    for text, part in zip(texts, ["os.fork", "os._exit", "builtins.exit", "builtins.open"], strict=False):
        assert f"Usage of the following function is not allowed: {part}" in text
    assert texts[5] == "42\n", "the episode goes on"
    assert not is_done
    assert goals[0] < goals[1]


def test_training_rows_and_problems_come_from_its_data(root, monkeypatch):
    monkeypatch.setenv(APPWORLD_ROOT, str(root))
    dataset = CONFIGS.dataset("appworld").model_copy(update={"counts": {"tasks": 3}})
    selection, source = select(dataset)
    assert source == {"tasks": {"environment": "appworld", "split": "train"}}
    assert [row.extra["task"] for row in selection.rows] == ["aaaaaa1_1", "aaaaaa1_2", "aaaaaa1_3"]
    prompt = CONFIGS.protocol("repo").prompt_of["appworld"].value
    system, user = render_fields(selection.rows[0].fields, prompt)
    assert "```python" in system["content"]
    assert "I am Ada Lane, ada.lane@example.com, phone 5550100." in user["content"]
    assert user["content"].endswith("The task: Write a note titled 'Groceries 1' in Simple Note.")
    benchmark = CONFIGS.benchmark("appworld_test_normal").model_copy(update={"counts": {"problems": 6}})
    problems, _ = load_benchmark(benchmark)
    assert [problem["extra"]["scenario"] for problem in problems] == ["aaaaaa1"] * 3 + ["bbbbbb2"] * 3
    with pytest.raises(PinMismatch, match="expected 168 problems, found 6"):
        load_benchmark(CONFIGS.benchmark("appworld_test_normal"))


def test_data_of_another_kind_are_refused(root, monkeypatch, tmp_path):
    (tmp_path / "data/datasets").mkdir(parents=True)
    (tmp_path / "data/tasks/one_1").mkdir(parents=True)
    (tmp_path / "data/datasets/train.txt").write_text("one_1\n")
    (tmp_path / "data/tasks/one_1/specs.json").write_text(json.dumps({"instruction": "Do."}))
    monkeypatch.setenv(APPWORLD_ROOT, str(tmp_path))
    with pytest.raises(CorruptFile, match=r"one_1/specs\.json: expected an instruction and a supervisor"):
        select(CONFIGS.dataset("appworld"))


def test_jobs_in_images_see_its_data(monkeypatch):
    monkeypatch.delenv(APPWORLD_ROOT, raising=False)
    paths = Paths(cache="/c", appworld="/data/appworld", binds=["/b"])
    assert paths.seen_by_jobs() == [Path("/c"), Path("/data/appworld"), Path("/b")]
    monkeypatch.setenv(APPWORLD_ROOT, "/elsewhere")
    assert Path("/elsewhere") in paths.seen_by_jobs()


def test_another_version_is_refused(kind, monkeypatch):
    monkeypatch.setitem(kind.options, "version", "0.2.0")
    with pytest.raises(MissingInput, match=r"expected the package appworld 0\.2\.0, found 0\.1\.3\.post1"):
        try_task(kind, "aaaaaa1_1")


def test_without_it_what_to_type_is_said(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv(APPWORLD_ROOT, raising=False)
    with pytest.raises(MissingInput, match=r"(?s)APPWORLD_ROOT names no folder.*appworld download data"):
        select(CONFIGS.dataset("appworld"))
    monkeypatch.setenv(APPWORLD_ROOT, str(tmp_path))
    with pytest.raises(MissingInput, match="data/tasks does not exist"):
        load_benchmark(CONFIGS.benchmark("appworld_test_normal"))
    monkeypatch.setenv(APPWORLD_PYTHON, str(tmp_path / "none/bin/python"))
    with pytest.raises(MissingInput, match="make venv-appworld"):
        world_kind("appworld")
    monkeypatch.delenv(APPWORLD_ROOT)
    assert entrobench("cells", "--paper", "repo", "--scale", "paper") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "appworld" in line]
    assert lines
    assert all("needs AppWorld's data" in line for line in lines), "those that go on from one, too"
    assert not [line for line in lines if "cannot run" in line], "nothing else is in the way"
