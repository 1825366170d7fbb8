"""Walking a decoder block by block: what recipes that look at activations are built from.

``walk`` runs the model's own code with one block's weights in memory, ``groups`` tells which layers share an input,
``moments`` gathers statistics of inputs, ``text`` reads calibration text, ``journal`` survives an interruption.
"""
