"""Where a result comes from: manifest of a cell, RO-Crate of a finished table, redaction of secrets.

Training, evaluation and the command line import it; it reads files and never a trainer.
"""
