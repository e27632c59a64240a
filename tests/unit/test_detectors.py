"""Low quality of responses, and DAPO's overlong penalty against verl's reward manager."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrobench.rewards.detectors import (
    has_format_violation,
    has_language_mixing,
    overlong_penalty,
    repetition_share,
    response_quality,
)


@pytest.mark.parametrize(
    ("text", "is_violation"),
    [
        (r"\boxed{1}", False),
        ("1", True),
        (r"\boxed{1} \boxed{1}", True),
        (r"\fbox{1}", True),
        (r"\boxed{", False),
    ],
)
def test_exactly_one_box(text, is_violation):
    assert has_format_violation(text) is is_violation


@pytest.mark.parametrize(
    ("text", "is_mixed"),
    [
        ("plain", False),
        ("x 因此 y", True),
        ("㐀", True),  # extension A
        ("𠀀", True),  # extension B, beyond 16 bits
        ("豈", True),  # compatibility ideograph
        ("αβγ é ∑ 😀", False),
        ("ひらがな 한글 。", False),
        ("", False),
    ],
)
def test_chinese_characters(text, is_mixed):
    assert has_language_mixing(text) is is_mixed


def test_repetition_is_the_share_of_ngrams_seen_before():
    # a b a b a: 2-grams ab ba ab ba, two of four seen before
    assert repetition_share(list("ababa"), ngram=2) == 0.5
    # x 24 times: 5 20-grams, 4 seen before
    assert repetition_share(["x"] * 24) == pytest.approx(4 / 5)
    assert repetition_share(list(range(100))) == 0
    assert repetition_share(["x"] * 19) == 0
    assert repetition_share([]) == 0


def test_quality_of_a_good_and_of_a_bad_response():
    words = "one two three"
    assert response_quality(rf"{words} \boxed{{3}}", words.split()) == {
        "format_violation": 0.0,
        "language_mixing": 0.0,
        "repetition": 0.0,
        "low_quality": 0.0,
        "repetition_share": 0.0,
    }
    # 3 x 40 words: 101 20-grams, 3 different, share 98 / 101 = .9703
    bad = response_quality("所以", words.split() * 40)
    assert bad == pytest.approx(
        {
            "format_violation": 1,
            "language_mixing": 1,
            "repetition": 1,
            "low_quality": 1,
            "repetition_share": 98 / 101,
        }
    )


def test_real_responses_do_not_repeat_themselves_and_a_loop_does(real_path):
    path = real_path("outputs/math_qwen25math_cot100/math_cot_100.slim.jsonl.gz")
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        responses = [text for line in stream for text in json.loads(line)["response"]]
    found = [response_quality(text, text.split()) for text in responses]
    assert len(found) == 800
    # Measured: largest share .22, and 20 responses without exactly one box
    assert sum(quality["repetition"] for quality in found) == 0
    assert sum(quality["format_violation"] for quality in found) == 20
    looped = [4 * text for text in responses if len(text.split()) > 40]
    assert all(response_quality(text, text.split())["repetition"] for text in looped)


@pytest.mark.parametrize(
    ("length", "penalty"),
    # L = 8192, b = 1024: the penalty starts at 7168; 7424 is a quarter of the buffer, 7680 half of it
    [(0, 0), (7168, 0), (7424, -0.25), (7680, -0.5), (8192, -1), (9000, -1)],
)
def test_overlong_penalty_of_the_exchange_paper(length, penalty):
    assert overlong_penalty(length, 8192, 1024) == pytest.approx(penalty)
    assert overlong_penalty(length, 8192, 1024, factor=2) == pytest.approx(2 * penalty)


@pytest.mark.parametrize(("max_length", "buffer"), [(10, 0), (10, -1), (10, 11)])
def test_a_buffer_that_does_not_fit_is_refused(max_length, buffer):
    with pytest.raises(ValueError, match="buffer"):
        overlong_penalty(5, max_length, buffer)


@given(st.integers(0, 5000), st.integers(1, 4000), st.integers(1, 4000), st.floats(0, 10))
def test_penalty_lies_between_zero_and_factor_and_never_rises(length, max_length, buffer, factor):
    if buffer > max_length:
        return
    penalty = overlong_penalty(length, max_length, buffer, factor)
    assert -factor <= penalty <= 0
    assert overlong_penalty(length + 1, max_length, buffer, factor) <= penalty


def test_same_rewards_as_verls_reward_manager():
    from types import SimpleNamespace

    import torch
    from verl import DataProto
    from verl.workers.reward_manager.dapo import DAPORewardManager

    prompt, longest, buffer, factor = 2, 12, 5, 0.75
    lengths = list(range(1, longest + 1))
    mask = torch.tensor([[1] * (prompt + length) + [0] * (longest - length) for length in lengths])
    data = DataProto.from_dict(
        tensors={
            "prompts": torch.ones(len(lengths), prompt, dtype=torch.long),
            "responses": torch.ones(len(lengths), longest, dtype=torch.long),
            "attention_mask": mask,
        },
        non_tensors={
            "reward_model": [{"ground_truth": "1"}] * len(lengths),
            "data_source": ["x"] * len(lengths),
            "extra_info": [{} for _ in lengths],
        },
    )
    tokenizer = SimpleNamespace(decode=lambda ids, skip_special_tokens: "text", eos_token="</s>")
    manager = DAPORewardManager(
        tokenizer,
        num_examine=0,
        compute_score=lambda **_: 1.0,
        max_resp_len=longest,
        overlong_buffer_cfg=SimpleNamespace(enable=True, len=buffer, penalty_factor=factor, log=False),
    )
    rewards = manager(data).sum(-1)
    expected = [1 + overlong_penalty(length, longest, buffer, factor) for length in lengths]
    assert rewards.tolist() == pytest.approx(expected)
    # 12 tokens: -.75 (12 - 7) / 5 = -.75
    assert expected[-1] == pytest.approx(0.25)
