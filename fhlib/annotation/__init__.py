"""Correct what a segmentor outlined, in the notebook, and learn on from it (discussion, point 3: help for annotators)."""
