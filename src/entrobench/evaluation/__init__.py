"""Evaluation: n samples per problem through lm-eval and vLLM, graded afterwards, kept as files."""
