"""How fast a folder is on this machine, against other folders, with numpy and onnxruntime alone.

    rounds   runs the contestants A B C A B C …, each time in a fresh process (``process`` → ``worker``)
    worker   one contestant, one round: load, first token, prefill, decode, memory → one JSON record
    kinds    which class runs which kind of folder (``ours``, ``plain``, ``genai``)
    summary  medians, spreads and ratios over the rounds

Every number of a record is in seconds or bytes.
"""
