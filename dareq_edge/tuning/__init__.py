"""Tuning: after codes are chosen, the few float numbers around them learn from the float model (distillation).

``tune`` is the way in; ``settings`` says how, ``student`` is the quantized model with its codes in 8 bits each,
``gradients`` runs it forward and backward one block at a time, ``divergence`` is the loss, ``state`` survives an
interruption.
"""
