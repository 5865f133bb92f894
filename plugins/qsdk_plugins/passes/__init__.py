"""Passes: a model in, a model out that is easier to quantize, or that makes up for it."""
