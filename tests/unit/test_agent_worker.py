"""The rows of a prompt's responses are put at once, before its last status."""

import asyncio

import pytest
import torch

from entrobench.training.agent_worker import GroupedPuts

pytestmark = pytest.mark.slow


class Queue:
    """TransferQueue as a worker calls it: what it was told, in order."""

    def __init__(self):
        self.told = []

    async def async_kv_batch_put(self, keys, fields, tags, partition_id):
        self.told.append((keys, fields, tags, partition_id))

    async def async_kv_put(self, key, partition_id, tag):
        self.told.append((key, tag["status"], partition_id))

    def kv_list(self):
        return "of the queue itself"


def row(length, **more):
    return {"responses": torch.arange(length), "extra_fields": {"turns": length}} | more


def of(queue, *responses):
    """Put each response (key, row) by itself, as verl does, in one partition; then finish prompt a_1."""
    puts = GroupedPuts(queue)

    async def run():
        await puts.async_kv_put(key="a_1", partition_id="train", tag={"status": "running"})
        for key, fields in responses:
            tags = [{"seq_len": len(fields["responses"])}]
            await puts.async_kv_batch_put(keys=[key], fields=[fields], tags=tags, partition_id="train")
        assert [each[1] for each in queue.told] == ["running"], "nothing before the prompt has ended"
        await puts.async_kv_put(key="a_1", partition_id="train", tag={"status": "finished"})

    asyncio.run(run())
    return puts


def test_all_responses_of_a_prompt_are_one_put_before_its_status():
    queue = Queue()
    of(queue, ("a_1_0_0", row(2)), ("a_1_2_0", row(3)), ("a_1_1_0", row(1)))
    _, (keys, fields, tags, partition), last = queue.told
    assert (keys, partition) == (["a_1_0_0", "a_1_2_0", "a_1_1_0"], "train")
    assert [response.tolist() for response in fields["responses"]] == [[0, 1], [0, 1, 2], [0]]
    assert [each["turns"] for each in fields["extra_fields"]] == [2, 3, 1]
    assert [tag["seq_len"] for tag in tags] == [2, 3, 1]
    assert last == ("a_1", "finished", "train")


def test_responses_of_another_prompt_or_partition_wait_for_their_own():
    queue = Queue()
    puts = of(queue, ("a_1_0_0", row(2)), ("a_11_0_0", row(4)), ("b_0_0", row(4)))
    assert [told[0] for told in queue.told] == ["a_1", ["a_1_0_0"], "a_1"]
    queue.told.clear()
    asyncio.run(puts.async_kv_put(key="a_11", partition_id="val", tag={"status": "finished"}))
    assert [told[0] for told in queue.told] == ["a_11"]
    asyncio.run(puts.async_kv_put(key="a_11", partition_id="train", tag={"status": "failure"}))
    assert [told[0] for told in queue.told] == ["a_11", ["a_11_0_0"], "a_11"]


def test_a_field_that_only_some_responses_have_is_kept():
    queue = Queue()
    of(queue, ("a_1_0_0", row(2)), ("a_1_1_0", row(2, seen=1)), ("a_1_2_0", row(2)))
    assert [told[0] for told in queue.told[1:-1]] == [["a_1_0_0", "a_1_2_0"], ["a_1_1_0"]]
    assert "seen" in queue.told[2][1]


def test_everything_else_is_the_queue_s_own():
    assert GroupedPuts(Queue()).kv_list() == "of the queue itself"
