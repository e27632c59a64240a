"""Between the processes of a run: where its weights go, and how those of vLLM wait for each other."""

import importlib
import threading
from types import SimpleNamespace

import pytest
from support import make_model
from verl.utils.config import omega_conf_to_dataclass
from verl.workers.rollout.base import get_rollout_class

import entrobench.training.engine  # noqa: F401  registers the rollout
from entrobench.cells import resolve
from entrobench.configs import Configs
from entrobench.paths import repository_root
from entrobench.training.verl_config import RUN_ID, compose_verl_config

pytestmark = pytest.mark.slow

JOB_ID = "01000000"  # what Ray gives the first job of every cluster


@pytest.fixture(scope="module", params=["smoke", "paper"])
def config(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cell")
    make_model(folder / "model")
    configs = Configs(repository_root() / "configs")
    cell = resolve("papo/7b-math/papo_polarity/seed0", request.param, configs, folder)
    return compose_verl_config(cell["verl"] | {"actor_rollout_ref.model.path": str(folder / "model")})


@pytest.fixture
def both_ends(config, monkeypatch):
    """Run id -> the socket's address in the trainer's worker and in vLLM's, as verl builds the two."""
    adapter_class = get_rollout_class(config.actor_rollout_ref.rollout.name)
    where = importlib.import_module(adapter_class.__mro__[1].__module__)
    context = SimpleNamespace(get_job_id=lambda: JOB_ID)
    monkeypatch.setattr(where.ray, "get_runtime_context", lambda: context)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("RAY_LOCAL_WORLD_SIZE", "8")
    monkeypatch.setenv("VERL_RAY_JOB_ID", JOB_ID)
    rollout = omega_conf_to_dataclass(config.actor_rollout_ref.rollout)
    module, _, name = rollout.engine_kwargs["vllm"]["worker_extension_cls"].rpartition(".")
    worker = object.__new__(getattr(importlib.import_module(module), name))
    worker.local_rank, worker.model_runner = 0, None

    def of_run(run_id: str) -> tuple[str, str]:
        monkeypatch.setenv(RUN_ID, run_id)
        return adapter_class(rollout, None, None).zmq_handle, worker._get_zmq_handle()

    return of_run


def test_both_ends_of_a_run_meet_and_those_of_two_runs_do_not(both_ends):
    one, other = both_ends("a1"), both_ends("b2")
    assert one[0] == one[1]
    assert other[0] == other[1]
    assert one[0] != other[0]
    assert one[0].startswith("ipc:///tmp/")
    assert len(one[0].removeprefix("ipc://")) < 100, "a socket's path has 107 bytes at most"


def test_a_reader_sleeps_until_something_is_written(monkeypatch):
    from vllm.distributed.device_communicators import shm_broadcast

    import entrobench.training.vllm_extension  # noqa: F401  mends vLLM on import

    writer = shm_broadcast.MessageQueue(n_reader=1, n_local_reader=1)
    reader = shm_broadcast.MessageQueue.create_from_handle(writer.export_handle(), rank=0)
    ready = threading.Thread(target=writer.wait_until_ready)
    ready.start()
    reader.wait_until_ready()
    ready.join()
    spins = []
    monkeypatch.setattr(shm_broadcast, "sched_yield", lambda: spins.append(1))
    received = []
    thread = threading.Thread(target=lambda: received.extend(reader.dequeue(timeout=20) for _ in range(3)))
    thread.start()
    for number in range(3):
        thread.join(0.1)  # the reader waits for each
        writer.enqueue(number)
    thread.join(30)
    assert received == [0, 1, 2]
    assert spins == []
