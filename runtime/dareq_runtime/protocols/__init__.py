"""Evaluation protocols, one per file; the file's name is the protocol's name."""
