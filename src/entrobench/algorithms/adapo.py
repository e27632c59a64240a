"""ADAPO: DAPO with an upper clip ratio that follows the entropy (arXiv 2603.11682, App. B).

Against DAPO: advantages stay, the actor's clip_ratio_high of each step is the controller's.

    H_k < H_1:  eps_high <- eps_high * 1.01        H_k > H_1:  eps_high <- eps_high / 1.01
    eps_high <- clip(eps_high, 0.2, 0.3),  eps_high = 0.28 at first

Where the paper is silent:
  1. The entropy is that of the batch that is trained on, without the tied groups that were dropped.
  2. The first step sets H_1 and runs with 0.28; the value updated by the entropy of step k is that step's
     own.
Edge cases: H_k = H_1 changes nothing.
"""

from dataclasses import dataclass

from entrobench.algorithms.shaper import Checkpointed, Shaped, TokenBatch, require_finite, state


@dataclass
class Adapo(Checkpointed):
    """The controller and Shaper of ADAPO. Raises ValueError for an empty window."""

    clip_init: float = 0.28
    clip_min: float = 0.2
    clip_max: float = 0.3
    factor: float = 1.01

    clip_ratio_high: float = state(0.0)
    step: int = state(0)
    entropy_target: float | None = state(None)

    def __post_init__(self) -> None:
        if not 0 < self.clip_min <= self.clip_init <= self.clip_max or self.factor <= 1:
            raise ValueError(
                "expected 0 < clip_min <= clip_init <= clip_max and factor > 1, "
                f"found {self.clip_min}, {self.clip_init}, {self.clip_max}, {self.factor}"
            )
        self.clip_ratio_high = self.clip_init

    def update(self, entropy: float) -> float:
        """Advance by one step with the batch's mean entropy (nats); return clip_ratio_high.

        Raises ValueError when `entropy` is not finite; the state is then unchanged.
        """
        require_finite("ADAPO: mean entropy", entropy, self.step + 1)
        self.step += 1
        if self.entropy_target is None:
            self.entropy_target = entropy
        if entropy < self.entropy_target:
            self.clip_ratio_high *= self.factor
        elif entropy > self.entropy_target:
            self.clip_ratio_high /= self.factor
        self.clip_ratio_high = min(max(self.clip_ratio_high, self.clip_min), self.clip_max)
        return self.clip_ratio_high

    def shape(self, batch: TokenBatch) -> Shaped:
        """See Shaper.shape."""
        clip = self.update(batch.mean_entropy())
        return Shaped(batch.advantages_BT, {"adapo/clip_ratio_high": clip}, actor={"clip_ratio_high": clip})
