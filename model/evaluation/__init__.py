"""Judging the model on files it is given."""
