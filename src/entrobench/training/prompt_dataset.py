"""verl's data set of prompts, without the names that its library gives to what it keeps in a cache."""

from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from datasets.fingerprint import generate_random_fingerprint
from verl.utils.dataset.rl_dataset import RLHFDataset


@dataclass(frozen=True)
class _Unnamed:
    """A data set whose filtered one is named at random, and kept in memory."""

    dataset: Dataset

    def filter(self, *args: Any, **settings: Any) -> Dataset:
        return self.dataset.filter(
            *args, **settings, new_fingerprint=generate_random_fingerprint(), keep_in_memory=True
        )


class PromptDataset(RLHFDataset):
    """verl's; `data.custom_cls` names it."""

    def maybe_filter_out_long_prompts(self, dataframe: Any = None) -> Any:
        """The prompts of at most `data.max_prompt_length` tokens.

        A filtered data set's name is else a hash of all that the filter refers to, tokenizer and modules
        included: seconds at each start, and another one each time.
        """
        if not self.filter_overlong_prompts:
            return dataframe
        return super().maybe_filter_out_long_prompts(_Unnamed(dataframe))
