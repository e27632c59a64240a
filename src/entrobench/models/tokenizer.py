"""The tokenizer of the tiny model: bytes, plus whole phrases of the smoke task as single tokens.

A byte-level vocabulary encodes any text without loss; the phrases keep prompts and completions to a few dozen
tokens, which is what a run on two cores can afford. The chat template is Qwen's for plain conversations,
without the default system prompt.
"""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from entrobench.data.demonstrations import CLOSERS, GUESS_OPENERS, MARKS, WORK_OPENERS
from entrobench.data.smoke import INSTRUCTION, SYSTEM_PROMPT

CONTEXT_LENGTH = 128
PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n"
    "' + message['content'] + '<|im_end|>' + '\n"
    "' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n"
    "' }}{% endif %}"
)
PROBLEM_PHRASES = ("What is ", " + ", " - ", "?", "Start with ", ". Add ", ". Take away ", ". What is left?")
NUMBERS = tuple(str(number) for number in range(100))


def build_tokenizer(
    more: Sequence[str] = (), context_length: int = CONTEXT_LENGTH
) -> PreTrainedTokenizerFast:
    """The tokenizer; the same on every machine, nothing is learned. more: other phrases of one token."""
    phrases = (
        f"system\n{SYSTEM_PROMPT}",
        "user\n",
        "assistant\n",
        INSTRUCTION,
        *PROBLEM_PHRASES,
        *WORK_OPENERS,
        *GUESS_OPENERS,
        *MARKS,
        *CLOSERS,
        *NUMBERS,
        *more,
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([PAD, START, END, *alphabet])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([PAD, START, END])
    # Digits and "?" are in the byte alphabet already
    names = dict.fromkeys(phrase for phrase in phrases if phrase not in vocabulary)
    core.add_tokens([AddedToken(phrase, normalized=False) for phrase in names])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[START],
        model_max_length=context_length,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def save_tokenizer(
    folder: Path, more: Sequence[str] = (), context_length: int = CONTEXT_LENGTH
) -> PreTrainedTokenizerFast:
    """Write the tokenizer's files to `folder` and return it."""
    tokenizer = build_tokenizer(more, context_length)
    tokenizer.save_pretrained(folder)
    return tokenizer
