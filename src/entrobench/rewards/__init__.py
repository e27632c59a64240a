"""Grading of answers: the same code is the training reward and the evaluation's grader."""
