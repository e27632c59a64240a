"""How vLLM's processes wait for each other on a CPU."""

import threading

import pytest

pytestmark = pytest.mark.slow


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
