"""What a method that reshapes advantages or steers the actor looks like to the trainer."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from entrobench.kernels.token_stats import TokenStats


@dataclass(frozen=True)
class TokenBatch:
    """The global training batch of one step on the driver, before it is split over ranks and mini-batches.

    advantages_BT: fp32 (B, T), right-padded. stats: TokenStats of (B, T) tensors, at the sampling
    temperature. mask_BT: bool (B, T), True on response tokens; all False on padding rows, whose other fields
    mean nothing. groups_B: int64 (B,), rows of one prompt share a number. step: the training step, from 1.
    """

    advantages_BT: Tensor
    stats: TokenStats
    mask_BT: Tensor
    groups_B: Tensor
    step: int

    def mean_entropy(self) -> float:
        """Mean of H over all response tokens of the batch, nats. NaN for a batch without response tokens."""
        return self.stats.entropy[self.mask_BT].double().mean().item()

    def polarity_BT(self) -> Tensor:
        """P = A T, the first-order entropy effect of each token's update (PAPO Eq. 8), (B, T)."""
        return self.advantages_BT * self.stats.tendency

    def surplus_log_prob_BT(self) -> Tensor:
        """L = log p + H, (B, T): log-probability of the token above the state's mean (REPO Theorem 1)."""
        return self.stats.logp + self.stats.entropy


class Shaped(NamedTuple):
    """What a Shaper makes of a step.

    advantages_BT: (B, T). metrics: flat. actor: settings of verl's actor for the updates of this step, such
    as clip_ratio_high.
    """

    advantages_BT: Tensor
    metrics: dict[str, float]
    actor: Mapping[str, float] = MappingProxyType({})


class Shaper(Protocol):
    """A method's advantage shaping with its state across steps. The trainer owns it and checkpoints it.

    The constructor takes the method's settings (`shaper.settings` of its YAML) as keyword arguments.
    """

    def __init__(self, **settings: Any) -> None: ...

    def shape(self, batch: TokenBatch) -> Shaped:
        """Return what becomes of the step; advances the state by one step."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Settings and state, JSON-serialisable; a JSON round trip restores them bit for bit."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned. Raises ValueError when keys or settings are not this run's."""
        ...


class Checkpointed:
    """`state_dict` and `load_state_dict` for a dataclass.

    Constructor fields are settings, `state()` fields are state.
    """

    def state_dict(self) -> dict[str, Any]:
        """Settings and state, JSON-serialisable."""
        return asdict(self)  # type: ignore[call-overload]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state. Raises ValueError when keys differ or the settings are not this run's."""
        name = type(self).__name__
        own = fields(self)  # type: ignore[arg-type]
        expected = {each.name for each in own}
        if set(state) != expected:
            raise ValueError(f"{name} state: expected keys {sorted(expected)}, found {sorted(state)}")
        for each in own:
            if each.init and getattr(self, each.name) != state[each.name]:
                raise ValueError(
                    f"{name} state was saved with {each.name}={state[each.name]}, this run has "
                    f"{getattr(self, each.name)}: resume with the same method settings"
                )
        for each in own:
            if not each.init:
                setattr(self, each.name, state[each.name])


def state(default: Any) -> Any:
    """A dataclass field that is state: it is not a constructor argument, and a checkpoint carries it."""
    return field(default=default, init=False)


def masked_sum(values_BT: Tensor, mask_BT: Tensor) -> float:
    """Sum over response tokens in fp64, so that row order and padding do not show."""
    return values_BT[mask_BT].double().sum().item()


def masked_mean(values_BT: Tensor, mask_BT: Tensor) -> float:
    """Mean over response tokens in fp64; NaN for a batch without response tokens."""
    return values_BT[mask_BT].double().mean().item()


def require_finite(name: str, value: float, step: int) -> float:
    """Return `value`. Raises ValueError, naming the quantity and the step, unless it is finite."""
    if not torch.isfinite(torch.tensor(value)):
        raise ValueError(f"{name} of step {step} is {value}; expected a finite number")
    return value
