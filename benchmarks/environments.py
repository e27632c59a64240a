"""What environments cost: a conversation without its model, and 512 at once.

Prints, of smoke_shell and, where its data are here, of AppWorld: processor time of an episode's begin and end
and of an execution; and of 512 stub conversations, all open at once, their seconds, the memory of their own,
and how much more the third wave has than the first (limit 10 %).
"""

import asyncio
import os
import time

import psutil

from entrobench.environments.server import Pool
from entrobench.environments.tasks import has_tasks, tasks_of
from entrobench.environments.worlds import world_kind

AT_ONCE, WAVES, TURNS = 512, 3, 4


def processor_seconds(pool: Pool) -> float:
    """Of this process and of the pool's sandbox, of episodes that have ended too."""
    assert pool._server is not None
    tree = psutil.Process(pool._server._process.pid)
    total = sum(os.times()[:2])
    for process in [tree, *tree.children(recursive=True)]:
        times = process.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
    return total


async def episodes(pool: Pool, task: str, number: int, code: str, turns: int) -> float:
    """Processor seconds of `number` episodes, one after the other, each with `turns` executions."""
    await pool.server()
    started = processor_seconds(pool)
    for _ in range(number):
        async with pool.episode(task) as episode:
            for _ in range(turns):
                await episode.execute(code)
            await episode.goals()
    await asyncio.sleep(1)  # until the last process is reaped
    return processor_seconds(pool) - started


async def cost(name: str, task: str, code: str, number: int) -> None:
    pool = Pool(world_kind(name), AT_ONCE)
    try:
        bare = await episodes(pool, task, number, code, 0)
        with_turns = await episodes(pool, task, number, code, TURNS)
    finally:
        pool.close()
    begin, turn = 1000 * bare / number, 1000 * (with_turns - bare) / number / TURNS
    print(f"{name:12} begin and end {begin:7.1f} ms of CPU, an execution {turn:6.2f} ms")


async def wave(pool: Pool) -> tuple[float, float]:
    """Seconds of AT_ONCE conversations that are all open at once, and megabytes of their own."""
    arrived, full = [], asyncio.Event()

    async def one(number: int) -> None:
        async with pool.episode(f"hard/{number}") as episode:
            await episode.execute("1 + 1")
            arrived.append(number)
            if len(arrived) == AT_ONCE:
                full.set()
            await full.wait()
            for _ in range(TURNS - 1):
                await episode.execute("1 + 1")

    started = time.monotonic()
    tasks = [asyncio.create_task(one(number)) for number in range(AT_ONCE)]
    await full.wait()
    assert pool._server is not None
    inside = psutil.Process(pool._server._process.pid).children(recursive=True)
    own = sum(process.memory_full_info().uss for process in inside) / 1e6
    await asyncio.gather(*tasks)
    return time.monotonic() - started, own


async def load() -> None:
    pool = Pool(world_kind("smoke_shell"), AT_ONCE)
    try:
        waves = [await wave(pool) for _ in range(WAVES)]
    finally:
        pool.close()
    growth = 100 * (waves[-1][1] / waves[0][1] - 1)
    print(
        f"{AT_ONCE} at once: {waves[-1][0]:.1f} s for {TURNS} executions each, {waves[-1][1]:.0f} MB of "
        f"their own; {growth:+.1f} % from the first wave to the third (limit 10)"
    )


def main() -> None:
    asyncio.run(cost("smoke_shell", "hard/3", "1 + 1", 200))
    if has_tasks("appworld"):
        task = tasks_of("appworld", "train")[0].name
        asyncio.run(cost("appworld", task, "print(apis.supervisor.show_profile())", 10))
    asyncio.run(load())


if __name__ == "__main__":
    main()
