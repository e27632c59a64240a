"""Statistics over samples: metrics and their intervals. numpy, scipy and the standard library.

Evaluation and report import it; it imports nothing of the project.
"""
