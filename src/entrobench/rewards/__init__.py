"""Grading of answers: the same code is the training reward and the evaluation's grader.

Data, training and evaluation import it; it imports the package root only.
"""
