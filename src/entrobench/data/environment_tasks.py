"""Tasks of an environment in the two row formats: training rows of a Selection, problems of a benchmark."""

from typing import Any

from entrobench.cells import CellId, dataset_of, missing_data, previous_cell
from entrobench.configs import Benchmark, Configs, Dataset, Scale
from entrobench.data.recipes.selection import Selection, TrainingRow
from entrobench.environments.tasks import GOLD, Task, has_tasks, tasks_of


def lacking_data(cell: CellId, scale: Scale, configs: Configs) -> str:
    """What the user has to get by hand before a cell, or the one that it goes on from, can run here; empty
    for nothing.
    """
    earlier = previous_cell(cell, configs)
    if earlier is not None and (needs := lacking_data(earlier, scale, configs)):
        return needs
    environment = configs.dataset(dataset_of(cell, scale, configs)).environment
    return "" if environment and has_tasks(environment) else missing_data(cell, scale, configs)


def select_tasks(config: Dataset) -> Selection:
    """The tasks of a training set with an environment. Raises MissingInput or CorruptFile."""
    tasks = tasks_of(config.environment, config.source["split"])
    selection = Selection(rows_in=len(tasks), dedup_key="the task's name", counts={"tasks": len(tasks)})
    selection.rows = [
        TrainingRow(
            index=task.name,
            problem=task.instruction,
            gold=GOLD,
            ability="agent",
            asked_with=dict(task.fields),
            extra={"task": task.name},
        )
        for task in tasks
    ]
    return selection


def task_problems(config: Benchmark) -> list[dict[str, Any]]:
    """The canonical problems of a benchmark with an environment. Raises MissingInput or CorruptFile."""
    return [
        task_problem(config.benchmark, task) for task in tasks_of(config.environment, config.source["split"])
    ]


def task_problem(benchmark: str, task: Task) -> dict[str, Any]:
    """One task as a problem."""
    extra = {"task": task.name, **({"scenario": task.scenario} if task.scenario else {}), **task.fields}
    return {
        "id": task.name,
        "benchmark": benchmark,
        "problem": task.instruction,
        "gold": GOLD,
        "extra": extra,
    }


def source_record(config: Benchmark | Dataset) -> dict[str, Any]:
    """Where the tasks come from, for a manifest."""
    return {"tasks": {"environment": config.environment, "split": config.source["split"]}}
