"""Training sets and benchmarks: pinned sources, recipes, prompts, schemas, audits of them.

Models, training and evaluation import it; of the rewards it uses how answers and calls are written.
"""
