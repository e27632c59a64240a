"""What a method that reshapes advantages looks like to the trainer."""

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from entrobench.kernels.token_stats import TokenStats


@dataclass(frozen=True)
class TokenBatch:
    """The global training batch of one step on the driver, before it is split over ranks and mini-batches.

    advantages_BT: fp32 (B, T), right-padded. stats: TokenStats of (B, T) tensors, at the sampling
    temperature. mask_BT: bool (B, T), True on response tokens; all False on padding rows, whose other fields
    mean nothing.
    """

    advantages_BT: Tensor
    stats: TokenStats
    mask_BT: Tensor

    def mean_entropy(self) -> float:
        """Mean of H over all response tokens of the batch, nats. NaN for a batch without response tokens."""
        return self.stats.entropy[self.mask_BT].double().mean().item()


class Shaper(Protocol):
    """A method's advantage shaping with its state across steps. The trainer owns it and checkpoints it.

    The constructor takes the method's settings (`shaper.settings` of its YAML) as keyword arguments.
    """

    def __init__(self, **settings: Any) -> None: ...

    def shape(self, batch: TokenBatch) -> tuple[Tensor, dict[str, float]]:
        """Return the shaped advantages (B, T) and a flat dict of metrics; advances the state by one step."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The whole state, JSON-serialisable; a JSON round trip restores it bit for bit."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned. Raises ValueError when keys are missing or unknown."""
        ...
