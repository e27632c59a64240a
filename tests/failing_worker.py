"""A vLLM worker that fails in a weight update of the third cell of its session."""

from typing import Any

from entrobench.training.vllm_extension import CPUWorkerExtension

# A cell of two steps begins with one update and makes one a step: the third cell's first step
FAILS_AT = 8


class FailingExtension(CPUWorkerExtension):
    """Counts weight updates."""

    updates = 0

    def update_weights_from_ipc(self, *args: Any, **kwargs: Any) -> None:
        type(self).updates += 1
        if self.updates == FAILS_AT:
            raise RuntimeError("provoked: this worker refuses its weights")
        super().update_weights_from_ipc(*args, **kwargs)
