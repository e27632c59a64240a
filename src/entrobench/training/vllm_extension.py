"""vLLM worker extension for CPU: linear layers keep their weights, so that verl can load new ones each step.

vLLM's CPU build repacks the weights of a linear layer after the first load and drops `layer.weight`
(vllm/model_executor/layers/utils.py, dispatch_cpu_unquantized_gemm); the next load then fails in the worker.
"""

from typing import Any

import torch
import vllm.model_executor.layers.utils as layer_utils

from entrobench.training.weight_transfer import WorkerExtension


def _keep_plain_linear(layer: Any, remove_weight: bool) -> None:
    layer.cpu_linear = torch.nn.functional.linear


layer_utils.dispatch_cpu_unquantized_gemm = _keep_plain_linear


class CPUWorkerExtension(WorkerExtension):
    """The extension of every run, in a module that mends vLLM on import."""
