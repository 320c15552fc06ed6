"""Judging the model on files it is given, with the baselines beside it."""

from model.evaluation.command import evaluate, summary_table

__all__ = ["evaluate", "summary_table"]
