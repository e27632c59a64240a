"""What a token is worth to the answer: it is replaced, and both ways are sampled to the end.

Exchange, Eq. 5 and 6:

    õ_t = the most probable token but the sampled one                                    (5)
    I_t = accuracy of k continuations of o_<t o_t  -  that of k continuations of o_<t õ_t    (6)

Which tokens: of answers that ended by themselves, the fifth with the highest entropy

    low_perplexity, high_perplexity   in the fifth of answers with the lowest, highest perplexity (Fig. 4b)
    early, late                       among the first, the last fifth of positions (Fig. 6b)

and of these a seeded choice. Where the paper is silent: how many tokens, and of which benchmark (here of the
cell's own with the most problems); that probabilities are those at temperature 1, and continuations are
sampled as the benchmark's answers are. A prefix is handed on as text: where its end is cut into other tokens
than those that were sampled, the continuation starts from those.

Written a chunk at a time; the same call goes on where another one stopped.
"""

import gc
import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from entrobench.errors import MissingInput, Unfinished
from entrobench.evaluation.cell import Prepared, without_thought
from entrobench.evaluation.engine import Engine, EngineSettings
from entrobench.evaluation.golds import grader_gold
from entrobench.evaluation.plan import BenchmarkPlan
from entrobench.evaluation.samples import Sample, stream_samples
from entrobench.evaluation.sampling import Request, request_seed
from entrobench.files import read_json, read_jsonl, sha256_text, write_json, write_jsonl, write_parquet
from entrobench.rewards.graders import grade_many, grader_of

DONE = "done.json"
GROUPS = ("low_perplexity", "high_perplexity", "early", "late")
HIGHEST = 0.2
# Tokens that are replaced, sampled and written together
CHUNK = 16
# Positions whose logits are in memory together
POSITIONS = 256


@dataclass(frozen=True)
class Settings:
    """tokens: of each group. continuations: k of Eq. 6. responses: answers that are measured."""

    tokens: int = 64
    continuations: int = 32
    responses: int = 256
    seed: int = 0


@dataclass(frozen=True)
class Choice:
    """A token of an answer and what replaces it. before: the answer until then, as text."""

    group: str
    problem_id: str
    sample: int
    prompt: str
    before: str
    token: str
    replacement: str
    position: int
    length: int
    entropy: float
    perplexity: float


@dataclass(frozen=True)
class Measured:
    """An answer's tokens: ids, and of each log p, entropy (nats) and the most probable other token."""

    sample: Sample
    prompt: str
    ids: list[int]
    logp: list[float]
    entropy: list[float]
    others: list[int]

    @property
    def perplexity(self) -> float:
        """exp of the mean of -log p."""
        return math.exp(-sum(self.logp) / len(self.logp))


def run_interventions(
    prepared: Prepared,
    plan: BenchmarkPlan,
    settings: Settings,
    is_asked_to_stop: Callable[[], bool] = lambda: False,
    start: Callable[[EngineSettings], Engine] = Engine,
) -> pd.DataFrame:
    """Choose tokens of a benchmark's answers, replace and continue them; leaves <benchmark>.parquet and
    DONE, and returns the table: a row a token.

    Raises MissingInput without graded answers, Unfinished where it was asked to stop with chunks left.
    """
    folder = prepared.place.folder / "interventions"
    origin = {"settings": asdict(settings), **prepared.origin(plan)}
    parts = folder / plan.benchmark / f"parts-{sha256_text(json.dumps(origin, sort_keys=True))[:12]}"
    choices = _choices(prepared, plan, settings, parts)
    chunks = [choices[at : at + CHUNK] for at in range(0, len(choices), CHUNK)]
    engine: Engine | None = None
    for number, chunk in enumerate(chunks):
        path = parts / f"{number:04d}.jsonl"
        if path.exists():
            continue
        if is_asked_to_stop():
            raise Unfinished(
                f"asked to stop before chunk {number + 1} of {len(chunks)}. The same command goes on."
            )
        print(f"replacing tokens of {plan.benchmark}: chunk {number + 1} of {len(chunks)}", flush=True)
        engine = engine or start(prepared.engine)
        write_jsonl(path, _impacts(engine, plan, chunk, settings.continuations))
    rows = [row for number in range(len(chunks)) for row in read_jsonl(parts / f"{number:04d}.jsonl")]
    table = pd.DataFrame(rows)
    write_parquet(folder / f"{plan.benchmark}.parquet", table)
    write_json(folder / DONE, {"benchmark": plan.benchmark, "tokens": len(table)} | origin)
    return table


# -- which tokens --------------------------------------------------------------------------------------------


def _choices(prepared: Prepared, plan: BenchmarkPlan, settings: Settings, parts: Path) -> list[Choice]:
    """The tokens, chosen once: measuring takes as long as a chunk, and a resumed run has the same ones."""
    path = parts / "choices.json"
    if not path.exists():
        answers = _answers(prepared, plan, settings)
        measured = list(measure(prepared.engine, answers))
        write_json(path, [asdict(choice) for choice in choose(measured, prepared.engine.model, settings)])
    return [Choice(**choice) for choice in read_json(path)]


def _answers(prepared: Prepared, plan: BenchmarkPlan, settings: Settings) -> list[tuple[Sample, str]]:
    """A seeded choice of answers that ended by themselves, each with its prompt. Raises MissingInput."""
    prompts = {problem.id: prompt for problem, prompt in zip(plan.problems, plan.prompts, strict=True)}
    path = prepared.place.samples(plan.benchmark)
    ended = [
        (sample, prompts[sample.problem_id])
        for sample in stream_samples(path, plan.asks)
        if sample.finish_reason == "stop" and sample.completion and sample.problem_id in prompts
    ]
    if not ended:
        raise MissingInput(f"{path}: no answer that ended by itself: there is no token to replace")
    return random.Random(f"{settings.seed}/answers").sample(ended, min(settings.responses, len(ended)))


def measure(engine: EngineSettings, answers: Sequence[tuple[Sample, str]]) -> Iterator[Measured]:
    """Teacher-forced, at temperature 1, in fp32. The model is loaded here and let go at the end."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(engine.model)
    is_cpu = engine.device == "cpu"
    placed: dict[str, Any] = {"dtype": torch.float32} if is_cpu else {"dtype": "auto", "device_map": "auto"}
    model = AutoModelForCausalLM.from_pretrained(engine.model, **placed).eval()
    try:
        for sample, prompt in answers:
            before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
            ids = tokenizer(sample.completion, add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                whole = torch.tensor([[*before, *ids]], device=model.device)
                hidden = model.get_decoder()(input_ids=whole).last_hidden_state[0, len(before) - 1 : -1]
                logp: list[float] = []
                entropy: list[float] = []
                others: list[int] = []
                for at in range(0, len(ids), POSITIONS):
                    logits = model.get_output_embeddings()(hidden[at : at + POSITIONS]).float()
                    log_p = logits.log_softmax(-1)
                    sampled = torch.tensor(ids[at : at + POSITIONS], device=log_p.device)[:, None]
                    logp += log_p.gather(1, sampled)[:, 0].tolist()
                    entropy += (-(log_p.exp() * log_p).sum(-1)).tolist()
                    others += log_p.scatter(1, sampled, -torch.inf).argmax(-1).tolist()
            yield Measured(sample, prompt, ids, logp, entropy, others)
    finally:
        del model
        gc.collect()
        if not is_cpu:
            torch.cuda.empty_cache()


def choose(measured: Sequence[Measured], model: Path, settings: Settings) -> list[Choice]:
    """Up to settings.tokens tokens of each group; see above."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    by_perplexity = sorted(range(len(measured)), key=lambda k: measured[k].perplexity)
    fifth = max(1, round(HIGHEST * len(measured)))
    answers = {"low_perplexity": set(by_perplexity[:fifth]), "high_perplexity": set(by_perplexity[-fifth:])}
    everywhere = [(k, t) for k, one in enumerate(measured) for t in range(len(one.ids))]

    def is_in(group: str, k: int, t: int) -> bool:
        if group in answers:
            return k in answers[group]
        place = (t + 0.5) / len(measured[k].ids)
        return place < HIGHEST if group == "early" else place > 1 - HIGHEST

    found = []
    for group in GROUPS:
        inside = [(k, t) for k, t in everywhere if is_in(group, k, t)]
        inside.sort(key=lambda place: -measured[place[0]].entropy[place[1]])
        highest = inside[: max(1, round(HIGHEST * len(inside)))]
        chosen = random.Random(f"{settings.seed}/{group}").sample(highest, min(settings.tokens, len(highest)))
        found += [_choice(group, measured[k], t, tokenizer) for k, t in chosen]
    return found


def _choice(group: str, one: Measured, at: int, tokenizer: Any) -> Choice:
    return Choice(
        group=group,
        problem_id=one.sample.problem_id,
        sample=one.sample.sample,
        prompt=one.prompt,
        before=tokenizer.decode(one.ids[:at]),
        token=tokenizer.decode([one.ids[at]]),
        replacement=tokenizer.decode([one.others[at]]),
        position=at,
        length=len(one.ids),
        entropy=one.entropy[at],
        perplexity=one.perplexity,
    )


# -- what they are worth -------------------------------------------------------------------------------------


def _impacts(engine: Engine, plan: BenchmarkPlan, chunk: Sequence[Choice], k: int) -> list[dict[str, Any]]:
    """A row a token: what it is, both accuracies, and I_t."""
    golds = {problem.id: grader_gold(problem) for problem in plan.problems}
    starts = [(one, one.before + token) for one in chunk for token in (one.token, one.replacement)]
    requests = [
        Request(
            one.prompt + start,
            max(1, plan.sampling.max_tokens - one.position - 1),
            request_seed(plan.sampling.seed, one.prompt + start, number),
        )
        for one, start in starts
        for number in range(k)
    ]
    # At temperature 0 all continuations are one
    sampling = plan.sampling if plan.sampling.temperature else replace(plan.sampling, temperature=1.0)
    completions = engine.complete(requests, sampling, plan.sampling.seed)
    texts = [start + completions[i * k + j].text for i, (_, start) in enumerate(starts) for j in range(k)]
    pairs = [(without_thought(text), golds[starts[i // k][0].problem_id]) for i, text in enumerate(texts)]
    is_correct = [grade.verdict == "correct" for grade in grade_many(grader_of(plan.asks), pairs)]
    shares = [sum(is_correct[i * k : (i + 1) * k]) / k for i in range(len(starts))]
    return [
        {name: value for name, value in asdict(one).items() if name not in ("prompt", "before")}
        | {"accuracy": shares[2 * i], "accuracy_replaced": shares[2 * i + 1], "k": k}
        | {"impact": shares[2 * i] - shares[2 * i + 1]}
        for i, one in enumerate(chunk)
    ]
