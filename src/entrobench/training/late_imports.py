"""What verl's actor imports when it loads a model or saves it, for a process that forks actors."""

import torch.distributed.checkpoint.state_dict  # noqa: F401
from verl.utils.model import AutoModelForVision2Seq

# verl asks whether its model is one of these, which imports the configurations of them all
AutoModelForVision2Seq._model_mapping.keys()
