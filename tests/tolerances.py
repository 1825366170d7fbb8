"""Every tolerance the tests use, with its reason; integers and stored bytes are always compared exactly."""

from __future__ import annotations

# Absolute, logits of a tiny OPT (magnitude about 20): cached chunks sum the same float32 products in another order.
REFERENCE_CHUNKED = 1e-4

# Relative to the largest output: MatMulNBits in fp32 compute sums up to 300 float32 products, as numpy does in float64.
KERNEL_FP32 = 2e-6

# Relative to the largest logit: two- to five-layer models in fp32 compute; the same sums in another order.
EXPORT_FP32 = 5e-6

# Nats per token: stories260k's published fp32 loss is 1.3136 over 30 stories; its first 512 tokens in 8 bits scatter.
STORIES_LOSS = 1.3136
STORIES_LOSS_MARGIN = 0.15
