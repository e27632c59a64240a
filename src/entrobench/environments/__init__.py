"""Stateful environments in which a model acts over several turns: worlds, their sandbox, conversations.

Training (agent_loop), evaluation, models and data import it. worlds/: what each world is. inside.py: what
runs in the sandbox. server.py: the host's side, pools. conversation.py: turns, the same in training and
evaluation.
"""
