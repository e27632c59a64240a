"""Stands for a training run on two nodes: joins Ray, places one actor on each, sums over both with gloo, and,
given a model, makes an update of verl's actor whose weights are sharded over both.

python on_two_nodes.py RESULT SECONDS [MODEL]    SECONDS: to wait at the end; beside RESULT the parameters
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import ray
import torch
import torch.distributed as dist


@ray.remote(num_gpus=1)
class Worker:
    """One rank, holding its node's only GPU slot, as verl's workers do."""

    def where(self) -> tuple[str, str]:
        return os.uname().nodename, ray.util.get_node_ip_address()

    def total(self, rank: int, address: str) -> float:
        # The interface between the nodes; the host name resolves to nothing here
        os.environ["GLOO_SOCKET_IFNAME"] = "eth0"
        dist.init_process_group("gloo", init_method=f"tcp://{address}", rank=rank, world_size=2)
        value = torch.tensor([float(rank + 1)])
        dist.all_reduce(value)
        dist.destroy_process_group()
        return value.item()

    def update(self, rank: int, address: str, model: str, tests: str) -> dict[str, torch.Tensor]:
        os.environ["GLOO_SOCKET_IFNAME"] = "eth0"
        sys.path.insert(0, tests)
        from actor_update import actor_config, one_step

        return one_step(actor_config(model, {}), rank, 2, address, 29512)["parameters"]


def main(result: Path, wait: float, model: str = "") -> int:
    is_asked: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, _: is_asked.append(number))
    ray.init(address=os.environ["ENTROBENCH_RAY_ADDRESS"])
    workers = [Worker.remote() for _ in range(2)]
    places = ray.get([worker.where.remote() for worker in workers])
    totals = ray.get(
        [worker.total.remote(rank, f"{places[0][1]}:29511") for rank, worker in enumerate(workers)]
    )
    if model:
        tests = str(Path(__file__).resolve().parents[1])
        updated = [
            worker.update.remote(rank, places[0][1], model, tests) for rank, worker in enumerate(workers)
        ]
        torch.save(ray.get(updated), result.with_suffix(".pt"))
    result.write_text(json.dumps({"nodes": len(ray.nodes()), "places": places, "totals": totals}))
    until = time.monotonic() + wait
    while time.monotonic() < until:
        time.sleep(0.2)
        if is_asked:
            return 75
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2]), *sys.argv[3:]))
