"""Comparing recipes on the same tokens: what is compared, quantizing it in a process of its own, and its losses.

Order of things, which bounds memory to one model: the float model writes its log-probabilities to disk once
(``logits``), then every recipe is quantized in a fresh process (``produce``) and read back against that file.
"""
