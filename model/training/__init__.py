"""Fitting the model: spectra in, weights and card out. Offline; the running product never imports it."""

from model.training.command import train

__all__ = ["train"]
