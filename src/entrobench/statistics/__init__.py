"""Statistics over samples: metrics and their intervals. numpy and the standard library.

Evaluation and report import it; it imports nothing of the project.
"""
