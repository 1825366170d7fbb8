"""Choosing codes for given scales so that the layer's output errs least, not each weight alone.

All functions take W [N, K] (the target, which need not be the checkpoint's weight), H = E[x xᵀ] [K, K] and scales
[N, G], and speak of signed codes q, int8 in [-2^(bits-1), 2^(bits-1) - 1], with w = s q (``codes``). The error they
lower is tr(D H Dᵀ), D = W - s q: the mean squared error of the layer's output.
"""
