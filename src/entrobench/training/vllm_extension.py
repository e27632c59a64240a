"""vLLM worker extension for CPU, in a module that mends vLLM on import.

1. vLLM's CPU build repacks the weights of a linear layer after the first load and drops `layer.weight`
   (vllm/model_executor/layers/utils.py, dispatch_cpu_unquantized_gemm); verl's next load then fails in the
   worker. Here linear layers keep their weights.
2. A process of vLLM that waits for another asks again and again for a second before it sleeps. On a GPU
   that hides a latency; here it takes a core from the process that it waits for.
"""

from typing import Any

import torch
import vllm.model_executor.layers.utils as layer_utils
from vllm.distributed.device_communicators import shm_broadcast

from entrobench.training.weight_transfer import WorkerExtension

LOOK_AGAIN_MS = 50


def _keep_plain_linear(layer: Any, remove_weight: bool) -> None:
    layer.cpu_linear = torch.nn.functional.linear


layer_utils.dispatch_cpu_unquantized_gemm = _keep_plain_linear


class _SleepingCondition(shm_broadcast.SpinCondition):
    """Sleeps at once; looks again after a while, for the first notice is lost where the reader joins late."""

    def __init__(self, is_reader: bool, context: Any, notify_address: str) -> None:
        super().__init__(is_reader, context, notify_address, busy_loop_s=0)

    def wait(self, timeout_ms: int | None = None) -> None:
        super().wait(LOOK_AGAIN_MS if timeout_ms is None else min(timeout_ms, LOOK_AGAIN_MS))


shm_broadcast.SpinCondition = _SleepingCondition


class CPUWorkerExtension(WorkerExtension):
    """The extension of every run, from this module."""
