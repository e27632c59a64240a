"""graded.parquet: the same outcomes as from the samples, and never those of another file."""

import os

import pytest

from entrobench.errors import CorruptFile
from entrobench.evaluation.graded import FILE, Graded, graded_samples, keep_graded
from entrobench.evaluation.outcomes import Outcomes
from entrobench.evaluation.samples import Sample, stream_samples, write_samples


def sample(problem, k, **changes):
    of = {
        "benchmark": "aime24", "problem_id": problem, "sample": k, "prompt_sha256": "0" * 64,
        "completion": "x\u2028y", "extracted": None if k else "3", "verdict": "incorrect" if k else "correct",
        "second_verdict": None, "gold": "3", "n_tokens": 5, "finish_reason": "stop", "category": "a",
    }  # fmt: skip
    return Sample(**(of | changes))


def scored(path, samples):
    write_samples(path, samples)
    assert list(keep_graded(path, stream_samples(path))) == samples
    return path


IFEVAL = {"benchmark": "ifeval", "gold": '{"instruction_id_list": ["a", "b"]}'}


@pytest.mark.parametrize(
    "samples",
    [
        [sample(p, k) for p in "123" for k in range(2)],
        [sample("1", 0, **IFEVAL, instructions=[True, False], second_instructions=[True, True]),
         sample("2", 0, **IFEVAL, verdict="error", extracted=None)],
    ],
    ids=["mathematics", "ifeval"],
)  # fmt: skip
def test_outcomes_are_the_same_and_the_texts_are_not_read(tmp_path, samples):
    path = scored(tmp_path / "samples.jsonl", samples)
    kept = list(graded_samples(path))
    assert all(isinstance(each, Graded) for each in kept)
    assert Outcomes.of([kept]) == Outcomes.of([samples])


def test_samples_that_were_changed_are_read_themselves(tmp_path):
    path = scored(tmp_path / "samples.jsonl", [sample("1", 0)])
    write_samples(path, [sample("1", 0, verdict="incorrect")])
    (found,) = graded_samples(path)
    assert (type(found), found.verdict) == (Sample, "incorrect")
    path = scored(path, [sample("1", 0)])
    os.utime(path, ns=(0, 0))
    assert isinstance(next(graded_samples(path)), Sample), "as after a copy: the times are others"


def test_a_damaged_file_is_not_needed_and_damaged_samples_leave_none(tmp_path):
    path = scored(tmp_path / "samples.jsonl", [sample("1", 0)])
    path.with_name(FILE).write_bytes(b"PAR1")
    assert isinstance(next(graded_samples(path)), Sample)
    path.with_name(FILE).unlink()
    path.write_text(path.read_text()[:-9])
    with pytest.raises(CorruptFile):
        list(keep_graded(path, stream_samples(path)))
    assert not path.with_name(FILE).exists()
