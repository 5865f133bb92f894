"""Kernels beside numpy and the peers that are installed, interleaved in one process.

timing   what "best of interleaved rounds" means
works    what is computed, with its arrays; cases: which of it is measured, as data
ours     qsdk's side of a case; peers: one file per peer
run      a case, measured; advice: the layers of a model, measured
"""
