"""One file a training set: from its pinned source to what is kept, and what is dropped with which reason.

Only data/training_sets.py imports the recipes; each imports selection.py and no other recipe.
"""
