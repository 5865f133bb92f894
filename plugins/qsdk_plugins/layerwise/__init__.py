"""Quantizers that look at what a weight does to the inputs of its layer.

With errors E of the weight's rows and inputs X, the output is off by ``|E X|**2 = n E H E^T``; H
is all they need of the inputs.
"""
