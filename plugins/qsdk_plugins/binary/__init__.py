"""Weights as sums of scaled signs: the encodings, and the quantizers that need no training.

Source: Xu et al., "Alternating Multi-bit Quantization for Recurrent Neural Networks", ICLR 2018,
arXiv:1802.00150; Li, Zhang, Liu, "Ternary Weight Networks", arXiv:1605.04711.
"""
