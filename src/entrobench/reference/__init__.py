"""The reference run: several seeds of every method, kept as a bundle of tables.

Other runs are checked against it, and the head-to-head is computed from it. The command line alone
imports it.
"""
