"""Position-based advantage shaping (arXiv 2508.02260, Eq. 8 and 10, "Training Details").

Against GRPO: a bonus that grows towards one end of the response is added to the size of each token's
advantage.

    b_t = gamma sigmoid(d r_t)                                                    (8)
    r_t = m (l_t - n)
    A_t <- A_t + sign(A_t) b_t                                                    (10)

l_t in [0, 1) is the token's relative position, t / length for t = 0, 1, ...; d = 1 favours late tokens and
d = -1 early ones. The bonus applies in the steps first_step <= k < last_step.

Where the paper contradicts itself or is silent, and what its released code does:
  1. The paper gives m = 15 and n = -0.5; then r_t >= 7.5 and the bonus is gamma at every position, although
     the text says that it grows. The released code has l_t - 0.5: n = 0.5 here.
  2. "Beginning at step 200 and continuing for 100 steps": 200 <= k < 300. The analysis (gamma = 1.0) names no
     steps: the whole run.
  3. The released code limits the bonus to half of |A_t|; `cap: 0.5` does so too.
Edge cases: A_t = 0 stays 0; gamma = 0 is GRPO.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from entrobench.algorithms.shaper import Checkpointed, Shaped, TokenBatch


def relative_position(mask_BT: Tensor) -> Tensor:
    """l_t = index among the response's tokens / number of its tokens, (B, T); 0 where masked."""
    index_BT = (mask_BT.cumsum(1) - 1).clamp(min=0) * mask_BT
    return index_BT / mask_BT.sum(1, keepdim=True).clamp(min=1)


def position_bonus(mask_BT: Tensor, gamma: float, direction: float, scale: float, shift: float) -> Tensor:
    """b_t of Eq. 8, (B, T)."""
    return gamma * torch.sigmoid(direction * scale * (relative_position(mask_BT) - shift))


@dataclass
class Position(Checkpointed):
    """The Shaper of position-based shaping. Raises ValueError unless direction is 1 or -1."""

    gamma: float = 0.1
    direction: int = 1
    scale: float = 15.0
    shift: float = 0.5
    first_step: int = 200
    last_step: int | None = 300
    cap: float | None = None

    def __post_init__(self) -> None:
        if self.direction not in (1, -1):
            raise ValueError(f"expected direction: 1 (late) or -1 (early), found {self.direction}")

    def shape(self, batch: TokenBatch) -> Shaped:
        """See Shaper.shape."""
        is_active = self.first_step <= batch.step and (self.last_step is None or batch.step < self.last_step)
        metrics = {"position/active": float(is_active)}
        if not is_active:
            return Shaped(batch.advantages_BT, metrics)
        bonus_BT = position_bonus(batch.mask_BT, self.gamma, self.direction, self.scale, self.shift)
        if self.cap is not None:
            bonus_BT = torch.minimum(bonus_BT, self.cap * batch.advantages_BT.abs())
        return Shaped(batch.advantages_BT + batch.advantages_BT.sign() * bonus_BT, metrics)
