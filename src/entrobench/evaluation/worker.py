"""One of several sampling processes: `python -m entrobench.evaluation.worker FOLDER I/N MODEL TEMPLATE STEP`.

Started by run.py, which gives it its GPUs; MODEL, TEMPLATE and STEP may be empty.
"""

import sys
from pathlib import Path

from entrobench.errors import EntrobenchError
from entrobench.evaluation.cell import Shard, sample_cell
from entrobench.evaluation.places import Place
from entrobench.evaluation.run import noted_signals, prepared_cell


def main(folder: str, shard: str, model: str, chat_template: str, step: str) -> int:
    """Exit 0 when the shard is done, 75 when asked to stop before, 1 with one clear error otherwise."""
    try:
        _, prepared = prepared_cell(
            Place(Path(folder), int(step) if step else None),
            Path(model) if model else None,
            Path(chat_template) if chat_template else None,
        )
        with noted_signals() as requests:
            sample_cell(prepared, Shard.parse(shard), is_asked_to_stop=lambda: bool(requests))
    except EntrobenchError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
