"""The prompts that a step generates, and those that it trains on: both in the order of the data.

verl names prompts at random, takes groups by these names, and has their rows in the order in which they were
finished. With dynamic sampling the same seed would train on other prompts each time. Here a prompt's name is
its place in the order of the data, and dynamic sampling is DAPO's own loop: whole generation batches, of
which the first mixed groups are kept.
"""

import time
from collections.abc import Iterator
from typing import Any, Protocol

from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from entrobench.errors import TrainingFailed

# verl's metric of groups that are mixed and not needed
SURPLUS_KEY = "training/filter_groups/discarded_surplus_samples"


class CountedPrompts:
    """verl's data loader, with a count of the prompts that it gave in all passes over the data.

    verl saves its state with each checkpoint, and so the count: it is as old as the weights.
    """

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self.fetched = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self._loader:
            self.fetched += self._loader.batch_size
            yield batch

    def state_dict(self) -> dict[str, Any]:
        return {"loader": self._loader.state_dict(), "fetched": self.fetched}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._loader.load_state_dict(state["loader"])
        self.fetched = state["fetched"]

    def fetches_to_skip(self, wanted: int) -> int:
        """Fetches that are left of this pass where they give fewer than `wanted` prompts, else 0.

        DAPO's loader leaves out an incomplete last batch of a pass.
        """
        left = -self.fetched % self._pass_size
        return left // self._loader.batch_size if left < wanted else 0

    def passes(self) -> float:
        """Passes over the data so far."""
        return self.fetched / self._pass_size

    @property
    def _pass_size(self) -> int:
        return len(self._loader) * self._loader.batch_size


def prompt_name(place: int) -> str:
    """uid of the prompt at `place` of all that are fetched. It sorts as the data; verl splits keys at "_"."""
    return f"{place:012d}"


def mini_batch_rows(rows: int, ranks: int, size: int) -> list[list[int]]:
    """Rows, of a batch of `rows`, of each of verl's mini-batches of `size` over all ranks, without shuffling.

    A rank has an equal stretch of the batch, and takes its part of each mini-batch from it in order.
    """
    stretch, part = rows // ranks, size // ranks
    return [
        [rank * stretch + first + row for rank in range(ranks) for row in range(part)]
        for first in range(0, stretch, part)
    ]


class RolloutStop(Protocol):
    """Ends the rollouts that a step does not wait for."""

    def stop_where_enough(self, keys: list[str]) -> bool:
        """Whether enough of them are there; then the others are told to end. keys: of TransferQueue."""

    def resume(self) -> None:
        """All have ended; the next step may generate."""


class DataOrderReplayBuffer(ReplayBuffer):
    """verl's replay buffer with DAPO's dynamic sampling (2503.14476, Section 3.2, and its released loop).

    It waits for the whole generation batch, drops groups of equal rewards, has another generation batch made
    while there are fewer than `batch_size` groups, and gives the first `batch_size` in data order. The rest
    is discarded. Without dynamic sampling it gives all groups in data order.

    The trainer sets filter_groups_metric (None: no dynamic sampling), gen_batch_size (prompts) and early_stop
    (None: every rollout is waited for).
    """

    early_stop: "RolloutStop | None" = None

    def sample(
        self, global_steps: int, partition_id: str, batch_size: int
    ) -> tuple[KVBatchMeta, dict[str, Any]]:
        """(batch, metrics) as verl's. Raises TrainingFailed where no response was generated, and what the
        trainer raises when it is asked for too many prompts.
        """
        while True:
            self._wait_until_generated(partition_id)
            reasons = self._terminal_eviction_reasons(global_steps, partition_id)
            groups = sorted(self._sampleable_terminal_keys(partition_id, reasons))
            if len(groups) >= batch_size:
                break
            self.refill_fn(self.gen_batch_size)
        *_, metrics = self._evict_terminal_groups(global_steps, partition_id, reasons)
        chosen, surplus = groups[:batch_size], groups[batch_size:]
        self._clear_groups(partition_id, set(surplus))
        metrics[SURPLUS_KEY] = len(surplus)
        batch = self._materialize_batch(partition_id, chosen, dict(self.partitions[partition_id]))
        if not batch.keys:
            raise TrainingFailed(
                f"step {global_steps}: every rollout failed; the first error stands in train.log above this"
            )
        batch.reorder(sorted(range(len(batch)), key=lambda row: place_of(batch.keys[row])))
        return batch, metrics

    def _wait_until_generated(self, partition_id: str) -> None:
        last_message, is_stopped = time.time(), False
        self._sync_metadata_from_transfer_queue()
        while self.pending_keys[partition_id] or self.running_keys[partition_id]:
            if self.early_stop is not None and not is_stopped:
                is_stopped = self.early_stop.stop_where_enough(list(self.partitions[partition_id]))
            last_message = self._wait_for_next_poll(partition_id, last_message)
            self._sync_metadata_from_transfer_queue()
        if self.early_stop is not None and is_stopped:
            self.early_stop.resume()


def place_of(key: str) -> tuple[str, int, int]:
    """What puts trajectories, by their keys <uid>_<session>_<index>, in the order of the data."""
    name, session, index = key.split("_")
    return name, int(session), int(index)
