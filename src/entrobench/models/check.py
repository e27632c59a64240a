"""Is a model folder whole and harmless, does its vocabulary fit? Asked before anything heavy starts."""

from pathlib import Path

from entrobench.errors import ConfigError, CorruptFile, MissingInput, PinMismatch, UnsafeModel
from entrobench.files import read_json, sha256_file, sha256_kept, sha256_text

# Share of surplus tokens that a published model's padding has at most: Qwen2.5 pads 151,665 tokens to 152,064
LARGEST_PADDING = 0.01
# Formats that run code when they are read (pickle and what holds it), and code itself
UNSAFE = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".h5", ".joblib", ".py")


def check_model(folder: Path) -> None:
    """Check that config, tokenizer and weights are there and readable, and the weights those of model.json.

    Raises MissingInput, CorruptFile, PinMismatch or UnsafeModel. A folder without model.json (a trained
    checkpoint) has no pin.
    """
    from safetensors import SafetensorError, safe_open

    check_harmless(folder)
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
    for name, pinned in _pins(marker).items():
        found = sha256_kept(folder / name) if (folder / name).exists() else "no such file"
        if found != pinned:
            raise PinMismatch(
                f"{folder / name} has sha256 {found}, expected {pinned} ({marker}).\n  The weights were "
                f"changed after they were made. Delete {folder} and make the model again."
            )


def weights_sha256(folder: Path) -> str | None:
    """One hash over all weight files of a model that check_model has passed; None where there are none.

    The hash of a file that model.json pins is read there.
    """
    files = sorted(folder.glob("*.safetensors"))
    pins = _pins(folder / "model.json")
    return sha256_text("".join(pins.get(file.name) or sha256_file(file) for file in files)) if files else None


def _pins(marker: Path) -> dict[str, str]:
    """Weight file -> SHA-256 by model.json: `files` of a downloaded model, `sha256` of one made here."""
    content = read_json(marker) if marker.exists() else {}
    if "files" in content:
        return {name: digest for name, digest in content["files"].items() if name.endswith(".safetensors")}
    return {"model.safetensors": content["sha256"]} if content.get("sha256") else {}


def check_harmless(folder: Path) -> None:
    """Raise UnsafeModel for weights in a format that runs code when read, or a model with its own code.

    Weights are safetensors and nothing else, and `trust_remote_code` is never set.
    """
    unsafe = sorted(path.name for path in folder.glob("*") if path.suffix.lower() in UNSAFE)
    if unsafe:
        raise UnsafeModel(
            f"{folder} holds {', '.join(unsafe)}: pickled weights and Python files run code when they are "
            f"read.\n  Only safetensors are accepted. Delete them if *.safetensors hold the same weights, or "
            f"convert the model elsewhere."
        )
    for name in ("config.json", "tokenizer_config.json"):
        path = folder / name
        if path.exists() and read_json(path).get("auto_map"):
            raise UnsafeModel(
                f"{path}: auto_map names code of the model's own, which would need trust_remote_code. "
                f"Only architectures of transformers itself are accepted."
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
