"""Statistics over samples. Leaves: numpy and the standard library, nothing of the project."""
