"""The tiny base model's files, and the checks that every model passes before it is used."""

import json
from dataclasses import asdict

import pytest
from support import make_model, make_tokenizer
from transformers import AutoTokenizer, Qwen2ForCausalLM

from entrobench.data import smoke
from entrobench.errors import ConfigError, CorruptFile, MissingInput, PinMismatch
from entrobench.files import sha256_file, sha256_text, write_json
from entrobench.models import check, smollm2
from entrobench.models.check import check_model, check_vocabulary, weights_sha256
from entrobench.models.pretraining import Pretraining, copy_kept
from entrobench.models.tiny import NAME, Bounds, OutOfBounds, arithmetic, check_bounds, pretrain
from entrobench.models.tokenizer import save_tokenizer
from entrobench.reference.bundle import default_folder

pytestmark = pytest.mark.slow

SHORT = Pretraining(steps=3, batch_size=8)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "smoke_tiny"
    pretrain(folder, SHORT, Bounds(min_accuracy=0, max_accuracy=1, min_entropy=0))
    return folder


def test_the_base_model_is_whole_and_its_vocabulary_is_the_tokenizers(tiny):
    check_model(tiny)
    check_vocabulary(tiny)
    marker = json.loads((tiny / "model.json").read_text())
    assert marker["vocab_size"] == len(AutoTokenizer.from_pretrained(tiny))
    assert set(marker["measured"]["accuracy"]) == set(smoke.BENCHMARKS)


def test_a_model_outside_its_bounds_is_not_written(tmp_path):
    with pytest.raises(OutOfBounds, match=r"in-domain mean@8 is .*, expected 0\.9"):
        pretrain(tmp_path / "m", SHORT, Bounds(min_accuracy=0.9, max_accuracy=1, min_entropy=0))
    assert list(tmp_path.iterdir()) == []


def test_a_kept_model_is_copied_where_it_was_pretrained_with_the_same_settings(tiny, tmp_path):
    assert copy_kept(tiny, tmp_path / "m", SHORT)
    assert {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()} == {
        path.name: path.read_bytes() for path in tiny.iterdir()
    }
    assert not copy_kept(tiny, tmp_path / "other", Pretraining())
    assert not copy_kept(tmp_path / "nothing", tmp_path / "other", SHORT)
    assert not (tmp_path / "other").exists()


def test_the_reference_s_base_model_is_within_its_bounds_on_today_s_task():
    folder = default_folder() / "models" / NAME
    assert json.loads((folder / "model.json").read_text())["pretraining"] == asdict(Pretraining())
    model = Qwen2ForCausalLM.from_pretrained(folder)
    found = arithmetic().measure(model, AutoTokenizer.from_pretrained(folder))
    check_bounds(NAME, found["arithmetic"], Bounds())


def test_the_same_seed_gives_the_same_weights(tiny, tmp_path):
    pretrain(tmp_path / "again", SHORT, Bounds(min_accuracy=0, max_accuracy=1, min_entropy=0))
    assert (tmp_path / "again/model.safetensors").read_bytes() == (tiny / "model.safetensors").read_bytes()


def test_the_tokenizer_gives_every_prompt_back_and_keeps_it_short(tmp_path):
    tokenizer = save_tokenizer(tmp_path)
    for name in smoke.BENCHMARKS:
        for problem in smoke.benchmark_problems(name, seed=0):
            messages = smoke.ask(problem["problem"])
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert tokenizer.decode(ids) == text
            assert len(ids) <= 64, "max_prompt_length at smoke scale"


def test_a_vocabulary_that_is_not_the_tokenizers_is_refused(tmp_path):
    make_model(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"vocab_size": 320}))
    with pytest.raises(ConfigError, match=r"the model has 320 tokens, its tokenizer \d+"):
        check_vocabulary(tmp_path)


def test_the_hash_of_weights_is_the_same_with_a_pin_which_is_not_computed_again(tmp_path, monkeypatch):
    assert weights_sha256(tmp_path) is None
    make_model(tmp_path)
    (tmp_path / "model.json").unlink()
    shard = tmp_path / "a.safetensors"
    shard.write_bytes(b"a")
    hashes = {path.name: sha256_file(path) for path in (shard, tmp_path / "model.safetensors")}
    whole = sha256_text("".join(hashes.values()))
    assert weights_sha256(tmp_path) == whole
    write_json(tmp_path / "model.json", {"files": hashes})
    monkeypatch.setattr(check, "sha256_file", None)
    assert weights_sha256(tmp_path) == whole


def test_damaged_missing_and_changed_weights_are_named(tmp_path):
    make_model(tmp_path)
    weights = tmp_path / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:200])
    with pytest.raises(CorruptFile, match=r"model\.safetensors is damaged"):
        check_model(tmp_path)
    weights.write_bytes(content[:-4] + b"abcd")
    (tmp_path / "model.json").write_text(json.dumps({"sha256": "0" * 64}))
    with pytest.raises(PinMismatch, match="changed after they were made"):
        check_model(tmp_path)
    weights.unlink()
    with pytest.raises(MissingInput, match=r"no \*\.safetensors"):
        check_model(tmp_path)


def test_a_missing_model_package_says_what_installs_it(monkeypatch):
    monkeypatch.setattr(smollm2, "PACKAGE", "no_such_package")
    with pytest.raises(MissingInput, match="make slice"):
        smollm2.find_gguf()


def test_the_padding_of_a_published_model_is_accepted(tmp_path, capsys):
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    padded = len(tokenizer) + 2  # 0.8 %; Qwen2.5 pads by 0.3 %
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2", "vocab_size": padded}))
    check_vocabulary(tmp_path)
    assert f"pads its vocabulary of {len(tokenizer)} to {padded}" in capsys.readouterr().out
