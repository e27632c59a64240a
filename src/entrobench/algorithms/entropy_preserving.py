"""REPO: take a share of the log-probability off the advantage (arXiv 2603.11682, Section 3, App. B).

Against its base method (DAPO or GSPO as that paper has them):

    A_REPO = A - beta L,   L = log p + H                                          (Prop. 3)
    REPO-R:  beta = zeta max(A, 0), so that A > 0 becomes A (1 - zeta L)
    REPO-D:  beta = -zeta dH,  dH = -E[A L p]                                     (Cor. 1)

and each step zeta <- 2 zeta where the batch's entropy is below that of the first step, zeta / 2 where it is
above, clipped to [zeta_min, zeta_max]: [1e-5, 1e-1] for REPO-R, [1e-3, 1e1] for REPO-D, from 1e-3.

Where the paper is silent or has two readings:
  1. REPO-D's expectation is the mean of A L p over the global batch, one beta for all tokens: Fig. 10 calls
     the effect a consistent rotation, which a beta of each token's own would not be.
  2. Bidirectional REPO-R "flips the sign" when the entropy exceeds the target: |zeta| is first updated by the
     rule of the side that it steered to (doubled while the entropy stays beyond the target on the side it is
     steered from, halved on a crossing), then takes the sign of H_init - H.
  3. Entropy equal to the target changes nothing; so does the first step, which sets it.
  4. The entropy is that of the batch that is trained on, without the tied groups that were dropped.
Edge cases: zeta = 0 is the base method; L = 0 (a deterministic state) keeps its advantage.
"""

from dataclasses import dataclass

from torch import Tensor

from entrobench.algorithms.shaper import Checkpointed, Shaped, TokenBatch, masked_mean, require_finite, state


@dataclass
class ZetaController(Checkpointed):
    """The adaptive coefficient of Section 3 and, bidirectional, of App. B.

    Raises ValueError for an empty window.
    """

    zeta_min: float
    zeta_max: float
    zeta_init: float = 1e-3
    factor: float = 2.0
    bidirectional: bool = False

    zeta: float = state(0.0)
    step: int = state(0)
    entropy_target: float | None = state(None)

    def __post_init__(self) -> None:
        if not 0 < self.zeta_min <= self.zeta_init <= self.zeta_max or self.factor <= 1:
            raise ValueError(
                "expected 0 < zeta_min <= zeta_init <= zeta_max and factor > 1, "
                f"found {self.zeta_min}, {self.zeta_init}, {self.zeta_max}, {self.factor}"
            )
        self.zeta = self.zeta_init

    def update(self, entropy: float) -> float:
        """Advance by one step with the batch's mean entropy (nats); return zeta.

        Raises ValueError when `entropy` is not finite; the state is then unchanged.
        """
        require_finite("REPO: mean entropy", entropy, self.step + 1)
        self.step += 1
        if self.entropy_target is None:
            self.entropy_target = entropy
        elif entropy != self.entropy_target:
            is_below = entropy < self.entropy_target
            steers_up = self.zeta > 0
            size = abs(self.zeta) * (self.factor if is_below == steers_up else 1 / self.factor)
            size = min(max(size, self.zeta_min), self.zeta_max)
            self.zeta = -size if self.bidirectional and not is_below else size
        return self.zeta


def repo_rescale(advantages_BT: Tensor, surplus_BT: Tensor, zeta: float) -> Tensor:
    """REPO-R: A - zeta max(A, 0) L, (B, T)."""
    return advantages_BT - zeta * advantages_BT.clamp(min=0) * surplus_BT


def repo_decorrelate(advantages_BT: Tensor, surplus_BT: Tensor, beta: float) -> Tensor:
    """REPO-D: A - beta L, (B, T)."""
    return advantages_BT - beta * surplus_BT


@dataclass
class RepoRescale(ZetaController):
    """The Shaper of REPO-R."""

    zeta_min: float = 1e-5
    zeta_max: float = 1e-1

    def shape(self, batch: TokenBatch) -> Shaped:
        """See Shaper.shape."""
        zeta = self.update(batch.mean_entropy())
        return Shaped(
            repo_rescale(batch.advantages_BT, batch.surplus_log_prob_BT(), zeta),
            {"repo/zeta": zeta, "repo/entropy_target": self.entropy_target or 0.0},
        )


@dataclass
class RepoDecorrelate(ZetaController):
    """The Shaper of REPO-D."""

    zeta_min: float = 1e-3
    zeta_max: float = 1e1

    def shape(self, batch: TokenBatch) -> Shaped:
        """See Shaper.shape."""
        zeta = self.update(batch.mean_entropy())
        surplus_BT = batch.surplus_log_prob_BT()
        covariance_BT = batch.advantages_BT * surplus_BT * batch.stats.logp.exp()
        beta = zeta * masked_mean(covariance_BT, batch.mask_BT)
        return Shaped(
            repo_decorrelate(batch.advantages_BT, surplus_BT, beta),
            {"repo/zeta": zeta, "repo/beta": beta, "repo/entropy_target": self.entropy_target or 0.0},
        )


@dataclass
class EntropyBonus(ZetaController):
    """The adaptive entropy bonus of Table 2: zeta, by REPO-D's rule (footnote 3), is the entropy_coeff."""

    zeta_min: float = 1e-3
    zeta_max: float = 1e1

    def shape(self, batch: TokenBatch) -> Shaped:
        """See Shaper.shape."""
        zeta = self.update(batch.mean_entropy())
        return Shaped(batch.advantages_BT, {"repo/zeta": zeta}, actor={"entropy_coeff": zeta})
