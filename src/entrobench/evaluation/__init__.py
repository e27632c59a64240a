"""Evaluation: n samples per problem through lm-eval and vLLM, graded afterwards, kept as files, scored.

Report and the command line import it; it never imports training.
"""
