"""The validation kit: one folder or zip that a device judges itself with, and the host judges the device by.

``layout`` says what is in a kit, ``writing`` makes one, ``validate`` is the file that runs on the device (it imports
numpy and onnxruntime only, and is copied, never imported), ``judging`` judges its result again.
"""
