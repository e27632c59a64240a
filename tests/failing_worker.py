"""A vLLM worker whose second weight update fails."""

from typing import Any

from entrobench.training.vllm_extension import CPUWorkerExtension


class FailingExtension(CPUWorkerExtension):
    """Counts weight updates; the first is the one before training starts."""

    updates = 0

    def update_weights_from_ipc(self, *args: Any, **kwargs: Any) -> None:
        type(self).updates += 1
        if self.updates == 2:
            raise RuntimeError("provoked: this worker refuses its second weights")
        super().update_weights_from_ipc(*args, **kwargs)
