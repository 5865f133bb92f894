"""Rows of floats as sums of a few numbers, each with a sign of its own: the coder of sign planes.

    x ~ sum over planes i of  alpha[i] * b[i],     every b[i] -1 or +1

Weights are stored so, and kernels code their input so inside the call. Greedy and refined starts
are those of Guo et al., "Network Sketching", arXiv:1706.02021; the alternating cycles, of least
squares and of nearest levels, those of Xu et al., ICLR 2018, arXiv:1802.00150; the uniform start is
ours. The formulas and their order stand in ``native/sign_codes/sign_codes.h``: here they are in
numpy, to the bit the same. Sums that decide codes are float32 in 16 lanes, and the normal
equations are solved in double.
"""

from qsdk.sign_codes.coder import SignCoder
from qsdk.sign_codes.words import pack_words, unpack_words

__all__ = ["SignCoder", "pack_words", "unpack_words"]
