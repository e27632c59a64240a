"""Is a model folder whole, and does its vocabulary fit its tokenizer? Asked before anything heavy starts."""

from pathlib import Path

from entrobench.errors import ConfigError, CorruptFile, MissingInput, PinMismatch
from entrobench.files import read_json, sha256_file

# Share of surplus tokens that a published model's padding has at most: Qwen2.5 pads 151,665 tokens to 152,064
LARGEST_PADDING = 0.01


def check_model(folder: Path) -> None:
    """Check that config, tokenizer and weights are there and readable, and the weights those of model.json.

    Raises MissingInput, CorruptFile or PinMismatch. A folder without model.json (a trained checkpoint) has no
    pin.
    """
    from safetensors import SafetensorError, safe_open

    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).exists():
            raise MissingInput(f"{folder} is no model folder: {name} is missing")
        read_json(folder / name)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise MissingInput(f"{folder} is no model folder: it holds no *.safetensors")
    for file in weights:
        try:
            with safe_open(file, framework="pt") as tensors:
                list(tensors.keys())
        except SafetensorError as error:
            raise CorruptFile(
                f"{file} is damaged or cut short: {error}. Delete {folder} and make it again."
            ) from error
    marker = folder / "model.json"
    pinned = read_json(marker).get("sha256") if marker.exists() else None
    if pinned is not None and sha256_file(folder / "model.safetensors") != pinned:
        raise PinMismatch(
            f"{folder / 'model.safetensors'} has sha256 {sha256_file(folder / 'model.safetensors')}, "
            f"expected {pinned} "
            f"({marker}).\n  The weights were changed after they were made. Delete {folder} and make the "
            f"model again."
        )


def check_vocabulary(folder: Path) -> None:
    """Raise ConfigError unless the model's vocabulary is the tokenizer's, or a little more.

    verl masks surplus logits in vLLM but not in the trainer. In a published model, whose padding has never
    been a target, they hold next to no probability, and the metric mismatch/kl would show it; in an untrained
    one the two would disagree about every token.
    """
    from transformers import AutoConfig, AutoTokenizer

    model = AutoConfig.from_pretrained(folder).vocab_size
    tokenizer = len(AutoTokenizer.from_pretrained(folder))
    if model == tokenizer:
        return
    if tokenizer < model <= (1 + LARGEST_PADDING) * tokenizer:
        print(f"entrobench: note: {folder} pads its vocabulary of {tokenizer} to {model}", flush=True)
        return
    raise ConfigError(
        f"{folder}: the model has {model} tokens, its tokenizer {tokenizer}. They have to be equal, or the "
        f"model's at most {LARGEST_PADDING:.0%} more: verl masks surplus tokens in vLLM but not in the "
        f"trainer, so their log-probabilities would differ."
    )
