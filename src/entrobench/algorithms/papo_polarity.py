"""PAPO: reweight token advantages by entropy polarity, steered by the entropy slope (arXiv 2605.11775,
Algorithm 1).

Against DAPO: advantages of entropy-raising updates (P > 0) are scaled by omega_pos, those of entropy-lowering
updates (P < 0) by omega_neg = 1 / omega_pos.

    P_t     = A_t (-t1 + t2)                                                   (lines 5-6, Eq. 8)
    s_k     = beta s_{k-1} + (1 - beta) (h_k - h_{k-1})                        (line 8)
    p_k     = clip((s_k - s_ref) / (-s_ref), 0, 1)                             (line 14)
    omega_neg = omega_min + (omega_max - omega_min) p_k^2, omega_pos = 1/omega_neg   (line 15)

h_k is the mean entropy of the batch (nats), s_ref and h_ref its slope and value at the end of the warm-up of
N_w steps, in which weights are 1. Once EMA(h_k) < gamma_gate h_ref the reweighting is off for good (line 11).

Where the paper is silent:
  1. h_0 is not defined: the first step adds a difference of 0.
  2. EMA(h_k) of line 11 names no coefficient and no start: beta_run, started at h_1.
  3. beta is beta_warm for k <= N_w and beta_run after (App. B.4 says "during the warm-up phase" and
     "thereafter").
  4. s_ref >= 0 (entropy did not fall in the warm-up) makes line 14 meaningless: weights stay 1 for the whole
     run and the metric papo/s_ref_not_negative says so.
  5. h_k runs over the response tokens of the training batch (after dynamic sampling), whatever the number of
     ranks.
Where it contradicts itself: line 15 bounds the weight of entropy-lowering updates by omega_min and omega_max;
App. B.6 speaks of bounds on the weight of entropy-raising ones ("expansion"). `bounded: contraction` is line
15. `bounded: expansion` is App. B.6: omega_pos = omega_max - (omega_max - omega_min) p_k^2, so that it falls
as the entropy comes to rest, as in line 15, and omega_neg = 1 / omega_pos.
Edge cases: P = 0 keeps its advantage; a step without response tokens is an error, because h_k would be NaN.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from entrobench.algorithms.shaper import Checkpointed, Shaped, TokenBatch, require_finite, state


@dataclass
class PhaseController(Checkpointed):
    """Lines 8-17 of Algorithm 1: the state that turns the entropy trajectory into omega_neg.

    Defaults: App. B.4, Qwen2.5-7B. Raises ValueError when a setting is outside its range.
    """

    omega_min: float = 0.98
    omega_max: float = 1.03
    beta_warm: float = 0.95
    beta_run: float = 0.9
    warmup_steps: int = 20
    gate_ratio: float = 0.3
    bounded: Literal["contraction", "expansion"] = "contraction"

    step: int = state(0)
    slope: float = state(0.0)
    entropy: float | None = state(None)
    entropy_ema: float | None = state(None)
    slope_ref: float | None = state(None)
    entropy_ref: float | None = state(None)
    active: bool = state(True)

    def __post_init__(self) -> None:
        if not 0 < self.omega_min <= self.omega_max:
            raise ValueError(f"expected 0 < omega_min <= omega_max, found {self.omega_min}, {self.omega_max}")
        if not (0 <= self.beta_warm < 1 and 0 <= self.beta_run < 1):
            raise ValueError(f"expected 0 <= beta < 1, found {self.beta_warm}, {self.beta_run}")
        if self.bounded not in ("contraction", "expansion"):
            raise ValueError(f"expected bounded contraction or expansion, found {self.bounded}")
        if self.warmup_steps < 1 or self.gate_ratio < 0:
            raise ValueError(
                f"expected warmup_steps >= 1 and gate_ratio >= 0, found {self.warmup_steps}, "
                f"{self.gate_ratio}"
            )

    def update(self, entropy: float) -> float:
        """Advance by one training step with mean entropy h_k (nats); return omega_neg.

        Raises ValueError when `entropy` is not finite; the state is then unchanged.
        """
        require_finite("PAPO: mean entropy", entropy, self.step + 1)
        self.step += 1
        beta = self.beta_warm if self.step <= self.warmup_steps else self.beta_run
        change = 0.0 if self.entropy is None else entropy - self.entropy
        self.slope = beta * self.slope + (1 - beta) * change
        self.entropy = entropy
        self.entropy_ema = (
            entropy
            if self.entropy_ema is None
            else self.beta_run * self.entropy_ema + (1 - self.beta_run) * entropy
        )
        if self.step == self.warmup_steps:
            self.slope_ref, self.entropy_ref = self.slope, entropy
        if self.entropy_ref is not None and self.entropy_ema < self.gate_ratio * self.entropy_ref:
            self.active = False
        return self._omega_neg()

    def _omega_neg(self) -> float:
        if self.step <= self.warmup_steps or not self.active:
            return 1.0
        if self.slope_ref is None or self.slope_ref >= 0:
            return 1.0
        progress = min(max((self.slope - self.slope_ref) / -self.slope_ref, 0.0), 1.0)
        range_passed = (self.omega_max - self.omega_min) * progress**2
        if self.bounded == "expansion":
            return 1.0 / (self.omega_max - range_passed)
        return self.omega_min + range_passed

    @property
    def is_reference_unusable(self) -> bool:
        """True once the warm-up is over and s_ref >= 0: weights stay neutral for the rest of the run."""
        return self.slope_ref is not None and self.slope_ref >= 0


def reweight(advantages_BT: Tensor, polarity_BT: Tensor, omega_neg: float) -> Tensor:
    """Lines 18-20 (Eq. 9): A / omega_neg where P > 0, A * omega_neg where P < 0, A elsewhere. All (B, T)."""
    weight_BT = torch.ones_like(advantages_BT)
    weight_BT[polarity_BT > 0] = 1.0 / omega_neg
    weight_BT[polarity_BT < 0] = omega_neg
    return advantages_BT * weight_BT


class PapoPolarity:
    """The Shaper of PAPO. Settings are those of PhaseController."""

    def __init__(self, **settings: Any) -> None:
        self.controller = PhaseController(**settings)

    def shape(self, batch: TokenBatch) -> Shaped:
        """One step of Algorithm 1 on the global batch; see Shaper.shape."""
        omega_neg = self.controller.update(batch.mean_entropy())
        shaped_BT = reweight(batch.advantages_BT, batch.polarity_BT(), omega_neg)
        metrics = {
            "omega_neg": omega_neg,
            "omega_pos": 1.0 / omega_neg,
            "papo/slope": self.controller.slope,
            "papo/entropy_ema": self.controller.entropy_ema or 0.0,
            "papo/active": float(self.controller.active),
            "papo/warmup_steps": float(self.controller.warmup_steps),
            "papo/s_ref_not_negative": float(self.controller.is_reference_unusable),
        }
        if self.controller.slope_ref is not None:
            metrics["papo/slope_ref"] = self.controller.slope_ref
        return Shaped(shaped_BT, metrics)

    def state_dict(self) -> dict[str, Any]:
        """Settings and state of the controller, JSON-serialisable."""
        return self.controller.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the controller. Raises ValueError when keys differ or the settings are not this run's."""
        self.controller.load_state_dict(state)
