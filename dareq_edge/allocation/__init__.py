"""Which block or matrix gets how many bits: facts, scores, rules that decide, and plans within a number of bytes."""
