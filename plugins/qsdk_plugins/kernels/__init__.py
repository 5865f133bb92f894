"""The built-in kernels: reference (numpy, says what is right), portable C, x86, arm.

One file per operation and encoding holds what its kernels share; one file per backend lists them.
"""
