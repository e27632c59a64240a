"""Rollouts by transformers, for machines that vLLM's CPU build does not support
(`actor_rollout_ref.rollout.name=hf_cpu`).

Loaded through `actor_rollout_ref.model.external_lib` in place of entrobench.training.engine, which it
imports.
"""

import asyncio
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray
import torch
from verl.workers.rollout import base
from verl.workers.rollout.replica import RolloutReplica, RolloutReplicaRegistry, TokenOutput

import entrobench.training.engine  # noqa: F401  registers the engine

GATHER_SECONDS = 0.05
MAX_BATCH = 256


class HFServerAdapter(base.BaseRollout):
    """Lives in the training worker and hands each new set of weights to the server."""

    def __init__(self, config: Any, model_config: Any, device_mesh: Any, replica_rank: int = -1) -> None:
        super().__init__(config, model_config, device_mesh)
        self.replica_rank = int(os.environ["RANK"]) if replica_rank == -1 else replica_rank
        self._server: Any = None

    @property
    def is_leader_rank(self) -> bool:
        return True

    async def resume(self, tags: list[str]) -> None:
        pass

    async def release(self) -> None:
        pass

    @torch.no_grad()
    async def update_weights(
        self,
        weights: Iterator[tuple[str, torch.Tensor]],
        wire_format: str = "named_tensors",
        global_steps: int | None = None,
        **_: Any,
    ) -> None:
        """Send every weight of the actor to the server of this replica."""
        if self._server is None:
            self._server = ray.get_actor(_server_name(self.replica_rank))
        state = {name: tensor.detach().cpu().clone() for name, tensor in weights}
        await self._server.load_weights.remote(state, global_steps)


@dataclass
class _Request:
    prompt: list[int]
    temperature: float
    max_tokens: int
    done: asyncio.Future


class HFServer:
    """Ray actor: gathers requests for a moment and samples them as one left-padded batch with a KV cache."""

    def __init__(self, config: Any, model_config: Any, replica_rank: int) -> None:
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

        self.config = config
        self.model = AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(model_config.path), dtype=torch.float32
        ).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(model_config.path)
        self.generator = torch.Generator()
        self.seed_rollouts(config.seed + replica_rank)
        self.step: int | None = None
        self.waiting: list[_Request] = []
        self.task: asyncio.Task | None = None

    async def load_weights(self, state: dict[str, torch.Tensor], step: int | None) -> None:
        """Replace the weights. Raises RuntimeError when one is missing (a tied lm_head may be) or unknown."""
        result = self.model.load_state_dict(state, strict=False)
        missing = [name for name in result.missing_keys if name != "lm_head.weight"]
        if missing or result.unexpected_keys:
            raise RuntimeError(
                f"weights do not fit the model: missing {missing}, unknown {result.unexpected_keys}"
            )
        self.model.tie_weights()
        self.step = step

    async def generate(
        self, prompt_ids: list[int], sampling_params: dict[str, Any], request_id: str, **_: Any
    ) -> TokenOutput:
        """Sample one completion. Reads temperature, max_tokens. Raises ValueError for top_p < 1 or top_k."""
        if sampling_params.get("top_p", 1.0) != 1.0 or sampling_params.get("top_k", -1) not in (-1, 0):
            raise ValueError(f"the transformers rollout samples without truncation, found {sampling_params}")
        max_tokens = sampling_params.get("max_tokens") or self.config.response_length
        request = _Request(
            list(prompt_ids),
            float(sampling_params.get("temperature", 1.0)),
            int(max_tokens),
            asyncio.get_running_loop().create_future(),
        )
        self.waiting.append(request)
        if self.task is None:
            self.task = asyncio.create_task(self._serve())
        return await request.done

    async def _serve(self) -> None:
        while self.waiting:
            await asyncio.sleep(GATHER_SECONDS)
            batch, self.waiting = self.waiting[:MAX_BATCH], self.waiting[MAX_BATCH:]
            try:
                sampled = self._sample_each(batch) if self.config.full_determinism else self._sample(batch)
                for request, (tokens, log_probs) in zip(batch, sampled, strict=True):
                    output = TokenOutput(
                        token_ids=tokens,
                        log_probs=log_probs,
                        stop_reason="completed",
                        extra_fields={"global_steps": self.step},
                    )
                    request.done.set_result(output)
            except Exception as error:  # noqa: BLE001  a waiting caller has to hear of it, whatever it is
                for request in batch:
                    if not request.done.done():
                        request.done.set_exception(error)
        self.task = None

    def _sample_each(self, batch: list[_Request]) -> list[tuple[list[int], list[float]]]:
        """verl's full_determinism: an answer depends on seed, weights and prompt, and on nothing that came
        before or beside it; so all responses of a group are equal.
        """
        completions = []
        for request in batch:
            state = random.Random(f"{self.seed}/{self.step}/{request.prompt}").getrandbits(63)
            self.generator.manual_seed(state)
            completions += self._sample([request])
        return completions

    @torch.no_grad()
    def _sample(self, batch: list[_Request]) -> list[tuple[list[int], list[float]]]:
        pad, eos = self.tokenizer.pad_token_id, self.tokenizer.eos_token_id
        width = max(len(request.prompt) for request in batch)
        ids_BT = torch.full((len(batch), width), pad)
        mask_BT = torch.zeros((len(batch), width), dtype=torch.long)
        for row, request in enumerate(batch):
            ids_BT[row, width - len(request.prompt) :] = torch.tensor(request.prompt)
            mask_BT[row, width - len(request.prompt) :] = 1
        temperature_B1 = torch.tensor([request.temperature for request in batch])[:, None].clamp(min=1e-6)
        position_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)
        outputs: list[tuple[list[int], list[float]]] = [([], []) for _ in batch]
        is_done = [False] * len(batch)
        cache = None
        while not all(is_done):
            out = self.model(
                input_ids=ids_BT,
                attention_mask=mask_BT,
                position_ids=position_BT,
                past_key_values=cache,
                use_cache=True,
            )
            cache = out.past_key_values
            logp_BV = torch.log_softmax(out.logits[:, -1].float() / temperature_B1, -1)
            next_B = torch.multinomial(logp_BV.exp(), 1, generator=self.generator)[:, 0]
            for row, request in enumerate(batch):
                if is_done[row]:
                    continue
                token = int(next_B[row])
                outputs[row][0].append(token)
                outputs[row][1].append(float(logp_BV[row, token]))
                is_done[row] = token == eos or len(outputs[row][0]) >= request.max_tokens
            ids_BT = next_B[:, None]
            mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(batch), 1)], 1)
            position_BT = position_BT[:, -1:] + 1
        return outputs

    async def collective_rpc(self, method: str, args: tuple[Any, ...] = (), **_: Any) -> None:
        """verl's call of a vLLM worker's method; of those there is `seed_rollouts`."""
        getattr(self, method)(*args)

    def seed_rollouts(self, seed: int) -> None:
        """Draw from here on as a server that starts with this seed."""
        self.seed = seed
        self.generator.manual_seed(seed)

    async def idle(self, *_: Any, **__: Any) -> None:
        """What verl asks of a server between steps; nothing is to be done here."""

    wake_up = sleep = clear_kv_cache = release_kv_cache = resume_kv_cache = idle
    abort_all_requests = resume_generation = start_profile = stop_profile = idle


class HFReplica(RolloutReplica):
    """One HFServer per rollout replica."""

    async def launch_servers(self) -> None:
        """Start the server and wait until it answers."""
        name = _server_name(self.replica_rank)
        actor: Any = ray.remote(HFServer).options(name=name, max_concurrency=self.max_concurrency)
        server = actor.remote(self.config, self.model_config, self.replica_rank)
        await server.idle.remote()
        self.servers, self._server_handle, self._server_address = [server], server, name


def _server_name(replica_rank: int) -> str:
    return f"hf_cpu_server_{replica_rank}"


RolloutReplicaRegistry.register("hf_cpu", lambda: HFReplica)
base._ROLLOUT_REGISTRY[("hf_cpu", "async")] = "entrobench.training.hf_rollout.HFServerAdapter"
