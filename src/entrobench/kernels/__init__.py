"""Token statistics of a softmax policy. Leaves: they import torch and nothing of the project."""
