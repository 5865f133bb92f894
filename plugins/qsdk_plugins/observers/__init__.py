"""Observers: what range of activations the codes have to cover."""
