"""Makes a small AppWorld of our own: `PYTHON appworld_data.py ROOT WORLD`, run by AppWorld's Python.

WORLD: the module environments/worlds/appworld.py, which unpacks the package.

The package's own data are not to be had here. Its engine makes this: API documentation, data bases with one
supervisor, and six tasks in two scenarios: to write a note with a title, and to say how many notes there are.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path

root = Path(sys.argv[1]).resolve()
os.environ["APPWORLD_ROOT"] = str(root)
(root / "data").mkdir(parents=True)

spec = importlib.util.spec_from_file_location("world", sys.argv[2])
world = importlib.util.module_from_spec(spec)
spec.loader.exec_module(world)
world.UNPACKED = root / "code"
world.unpack()

from appworld.apps import get_all_apps  # noqa: E402
from appworld.collections.api_docs import ApiDocCollection  # noqa: E402
from appworld.collections.models import ModelCollection  # noqa: E402
from appworld.common.constants import CANARY_STRING, DB_VERSION  # noqa: E402

NOTE_TESTS = ["a note with the title was made", "nothing else was changed"]
COUNT_TESTS = ["the answer is the number of notes", "no note was changed"]
NOTE_EVALUATION = """
def evaluate(test, public_data, private_data, main_user, models, ground_truth_answer):
    added, updated, removed = models.changed_records("simple_note.Note")
    with test("a note with the title was made"):
        test.case([note.title for note in added], "==", [public_data.title])
    with test("nothing else was changed"):
        test.case(len(updated) + len(removed), "==", 0)
"""
COUNT_EVALUATION = """
def evaluate(test, public_data, private_data, main_user, models, ground_truth_answer):
    task = models.end.supervisor.Task.find_one()
    import json
    with test("the answer is the number of notes"):
        test.answer(json.loads(task.answer), ground_truth_answer)
    with test("no note was changed"):
        test.case(models.changed_model_names().__contains__("simple_note.Note"), "==", False)
"""
PERSON = {
    "first_name": "Ada",
    "last_name": "Lane",
    "email": "ada.lane@example.com",
    "phone_number": "5550100",
}
TIME = "2023-05-18T12:00:00"


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def make_docs() -> None:
    docs = ApiDocCollection.build(load_apps=tuple(get_all_apps(skip_admin=True)))
    for app, of_app in docs.items():
        content = {name: {**doc, "canary_string": CANARY_STRING} for name, doc in of_app.items()}
        write(root / "data/api_docs/standard" / f"{app}.json", json.loads(json.dumps(content, default=str)))


def make_bases() -> None:
    base = root / "data/base_dbs"
    base.mkdir(parents=True)
    ModelCollection.load(
        to_db_home_path=str(base), from_db_home_path=str(base), load_apps=get_all_apps(), create_db=True
    )


def make_task(
    task: str, instruction: str, notes: int, public: dict, answer: object, tests: list, code: str
) -> None:
    folder = root / "data/tasks" / task
    memory = f":memory:task_input-{task}"
    models = ModelCollection.load(
        to_db_home_path=memory, from_db_home_path=str(root / "data/base_dbs"), load_apps=get_all_apps()
    )
    models.admin.MainUser(**PERSON, birthday="1990-01-01", sex="female").save()
    supervisor = models.supervisor.Supervisor(**PERSON, birthday="1990-01-01", sex="female")
    supervisor.save()
    models.supervisor.Task(supervisor_id=supervisor.id, instruction=instruction).save()
    models.supervisor.AccountPassword(
        supervisor_id=supervisor.id, account_name="simple_note", password="secret-1"
    ).save()
    person = {key: PERSON[key] for key in ("first_name", "last_name", "email")}
    user = models.simple_note.User(**person, password="secret-1", verified=True)
    user.save()
    for number in range(notes):
        models.simple_note.Note(user_id=user.id, title=f"Old {number}", content="...").save()
    models.save(db_home_path=str(folder / "dbs"), format="changes", app_names=get_all_apps())
    models.close()
    specs = {"instruction": instruction, "supervisor": PERSON, "datetime": TIME, "db_version": DB_VERSION}
    write(folder / "specs.json", specs)
    truth = {
        "metadata.json": {"difficulty": 1, "mode": "minimal", "num_apps": 1, "num_apis": 1,
                          "num_api_calls": 3, "num_solution_code_lines": 3},
        "public_data.json": public,
        "private_data.json": {},
        "answer.json": answer,
        "test_data.json": [{"requirement": tests[0], "label": "no_op_fail"},
                           {"requirement": tests[1], "label": "no_op_pass"}],
        "evaluation.py": code,
        "required_apps.json": ["simple_note"],
        "compiled_solution.py": "def solution(apis): pass",
    }  # fmt: skip
    for name, content in truth.items():
        write(folder / "ground_truth" / name, content)


make_docs()
make_bases()
for number in (1, 2, 3):
    title = f"Groceries {number}"
    make_task(f"aaaaaa1_{number}", f"Write a note titled {title!r} in Simple Note.", 1,
              {"title": title}, None, NOTE_TESTS, NOTE_EVALUATION)  # fmt: skip
    make_task(f"bbbbbb2_{number}", "How many notes do I have in Simple Note?", number,
              {}, number, COUNT_TESTS, COUNT_EVALUATION)  # fmt: skip
for split, tasks in {
    "train": [f"aaaaaa1_{n}" for n in (1, 2, 3)],
    "test_normal": [f"{s}_{n}" for s in ("aaaaaa1", "bbbbbb2") for n in (1, 2, 3)],
    "test_challenge": [f"bbbbbb2_{n}" for n in (1, 2, 3)],
}.items():
    write(root / "data/datasets" / f"{split}.txt", "\n".join(tasks))
