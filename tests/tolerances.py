"""Every tolerance the tests use, with its reason; integers and stored bytes are always compared exactly."""

from __future__ import annotations

# Absolute, logits of a tiny OPT (magnitude about 20): cached chunks sum the same float32 products in another order.
REFERENCE_CHUNKED = 1e-4

# Relative to the largest output: MatMulNBits in fp32 compute sums up to 300 float32 products, numpy float64 ones.
KERNEL_FP32 = 2e-6

# Relative to the largest logit: two- to five-layer models in fp32 compute; the same sums in another order.
EXPORT_FP32 = 5e-6

# Nats per token: stories260k's published fp32 loss is 1.3136 over 30 stories; its first 512 tokens in 8 bits scatter.
STORIES_LOSS = 1.3136
STORIES_LOSS_MARGIN = 0.15

# Relative to the largest logit: the runtime's tiny decoder in fp32 compute against numpy float64 (measured 3e-6).
RUNTIME_FP32 = 2e-5

# Nats: losses are float64 sums over at most a few hundred words of float32 logits.
NLL_FLOAT64 = 1e-12

# Relative: mean losses of the tiny decoder, fp32 compute against the numpy model.
RUNTIME_NLL = 1e-5

# Ratio of the estimated standard error to the true one over many draws; 200 repetitions scatter by 5 %.
STDERR_RATIO = 0.15

# MB resident while scoring 2,048-token windows of an OPT-125m shape; the project's own bar (measured 403).
SCORING_RSS_MB = 600

# Relative: the paper's float64 scales, stored as float32 (spacing 6e-8).
PAPER_SCALE = 1e-6

# Relative to a loss: the fast searches add the same float32 squares in another order than numpy's float32 mean.
DAREQ_LOSS = 1e-5

# Relative to the scale: w - w_q in float32 is computed from two rounded products.
HALF_STEP = 1e-5

# Relative to the largest output: a matrix product in the activation's dtype, K at most 100.
LINEAR_BY_DTYPE = {"float32": 1e-6, "float16": 4e-3, "bfloat16": 3e-2}

# Relative to the largest logit: 8-bit against float weights in two random layers (measured 0.007 to 0.022); a matrix
# read the wrong way round gives more than 0.5.
EIGHT_BITS = 0.05

# Relative to a squared error (and, squared, to the sum of squares): float32 residuals, up to 200 weights a row.
MSE_LOSS = 1e-5

# Relative to the largest output: MatMulNBits with int8 activations that hold the inputs exactly, K = 512; it sums
# products of whole numbers and float32 scales (measured 3e-7, a wrong sign of a scale gives about 1).
KERNEL_INT8 = 2e-6

# Relative to the largest weight: HQQ and NF4 with nested scales in float32 against float64 loops (no code may flip:
# one step is 0.004 or more of the range in 8 bits), and float16 scales and zero points of exactly representable rows.
DEQUANTIZED = 6e-4

# Relative to the largest weight: float16 rounds a zero point below 16 by at most 2^-8 steps of 1/15 of the range,
# and a scale by 2^-11.
HQQ_BINADE = 2 * (2**-8 / 15 + 2**-11)

# Relative to the largest logit: bf16 products (2^-9 each) in two or three random layers, against fp32.
WALK_BF16 = 0.05

# Relative to an output error: descent works in float32 on sums over 56 inputs, the check in float64.
DESCENT = 1e-4

# Relative to the largest entry: the factor is computed in float64 and given in float32.
INVERSE_FACTOR = 1e-6

# Absolute: means of 42 products of normal numbers, summed in float32.
MOMENTS = 1e-5

# Relative to the largest entry of E[(x' - x) x^T], x and x' bfloat16: each batch's product and the difference of the
# two inputs are rounded to bfloat16 (2^-9 each); multiplying x' itself would cost 2^-9 of the far larger H.
MOMENTS_GAP_BF16 = 0.01

# Fraction of equal weights in every tensor: the recipe's second moments are float32 sums over batches, the check's
# float64; a code that flips for that lets a few others of its row flip (measured: all equal).
GPTQ_SAME_CODES = 0.97

# gptq's loss above the float model's, as a fraction of round-to-nearest's: stories260k, 4 bits per channel, text
# that was not calibrated on (measured 0.62 with absmax scales, less with searched ones).
GPTQ_OF_NEAREST = 0.8

# Nats, also relative to the largest divergence: float16 log-probabilities of the float model are wrong by 2^-12 of
# themselves, which enters multiplied by their distance to the other model's, up to 10 nats between unrelated tables.
HALF_KL = 1e-3

# Relative to the largest gradient of any number, and to the loss: float32 block by block against float32 as a whole,
# the softmax in float64 there.
TUNING_GRADIENT = 1e-4

# Relative norm of the gradient of all scales of a tiny OPT: bf16 products and logits (2^-9 each) against float32.
TUNING_BF16 = 0.2

# Relative to the largest logit: attention of one query as two products, and a cache, against the model's own code
# over the whole window, two layers in float32.
ONE_QUERY = 1e-5

# Divergence after tuning over that before: stories260k, 4 bits per channel to nearest, text the model wrote and that
# was not tuned on.
TUNING_STORIES = 0.9

# Nats: mean loss of a model's own text against its mean entropy, 16 rows of 127 tokens of stories260k (the loss has a
# standard error of about 0.03).
ENTROPY_GAP = 0.1

# Decibels: the search adds float32 errors of up to 80 weights, where the check adds float64 ones.
SEARCH_DECIBELS = 1e-3

# Relative to an error: the same as a fraction.
SEARCH_ERROR = 2.5e-4

# Relative to the largest weight: moments are float32 sums over 300 inputs, and the fit amplifies their errors by the
# condition of the inputs.
CORRECTED = 1e-4

# Relative to the largest entry: attention and its averages in float32 against the eager model's own, in float64 sums.
ATTENTION_MOMENTS = 1e-5

# Relative to the largest entry: the same from bfloat16 probabilities and inputs (2^-9 each).
ATTENTION_BF16 = 0.02

# Relative to the largest logit: factors of 0.2 to 5 through up to four folds in each of two layers, float32.
FOLD = 1e-4

# awq's loss above the float model's, as a fraction of round-to-nearest's: stories260k, 4 bits per channel,
# text that was not calibrated on (measured 0.73).
AWQ_OF_NEAREST = 0.9

# Relative norm of logits: 8-bit weights in two random layers, clipped; a fold without its other half gives about 1.
AWQ_8_BITS = 0.1

# Share of rows that get the same scales from moments estimated from 40,000 draws (within 0.7 %) as from exact ones.
NOISE_ROWS = 0.8

# Relative: weights on the same grid, whose targets differ by the float32 errors of a product and a solve.
SAME_WEIGHTS = 1e-5

# Relative to the largest entry: output moments are kept in bfloat16 (2^-9), gathered in float32.
OUTPUT_MOMENTS = 2**-8

# Relative to the largest logit: a fused norm may sum in another order, which the 8-bit rounding of activations
# amplifies (measured 0); scales read from a node that was not folded would give about 1.
OPTIMIZATION_LEVELS = 0.02

# Relative to the largest output: attention over 8-bit keys and values against float32 ones of the same numbers.
CACHE_KERNEL = 1e-5

# Absolute: attention over five values of magnitude 3, rotated in float32 with the terms in another order.
ROTARY = 5e-6

# Absolute: values of magnitude 4 normalized in float32 against float64.
RMS_NORM = 5e-6

# Relative: keys and values of a few layers in int8 compute, by two routes through the graph.
CACHE_RANGE = 1e-5

# Relative to the largest logit: keys and values of two random layers in 8 bits per channel (measured 0.023, 0.044).
CACHE_LOGITS = 0.05

# Nats, and relative to a perplexity: validate.py's growing cache against the runtime's in place, in float32; measured
# 0. Also log-probabilities up to 30 nats stored as float32 (spacing 2e-6), and those of whole windows against chunks.
KIT = 1e-5

# Relative to the largest logit: int8 compute of two profiles of one model, whose blocks and so activations' codes are
# the same; sums before a norm may differ by one float32 rounding, which turns a code over.
PROFILES_INT8 = 0.02

# Relative to a perplexity, and nats of KL: WebAssembly sums the same float32 products in another order.
WEB_FP32 = 1e-4

# Relative, perplexity on another CPU against the host's: the project's own bars. Measured on emulated ARM: fp32 below
# 1e-7, int8 see docs/arm.md.
DEVICE_PPL = {"int8": 1e-2, "fp32": 1e-4}

# Coded bits over the entropy of the codes, all included; the project's own bar (measured 0.011 to 0.021).
CONTAINER_OVERHEAD = 0.03

# Relative, per scale: the published solver may stop before it has converged, where the last bits of its loss decide;
# the project's own bar (measured 0.009 at worst, 1e-6 where it converges).
ENTQUANT_SCALE = 1e-2

# Bits: the published code's entropy; the project's own bar (measured 0.004).
ENTQUANT_PUBLISHED_ENTROPY = 0.02

# Bits: closed form against L-BFGS at one lambda; the project's own bar (measured 0.045 on 32 x 172 weights).
ENTQUANT_ENTROPY = 0.05

# Relative L1 error at the same entropy, closed form against L-BFGS; the project's own bar (measured 0.006).
ENTQUANT_L1 = 1e-2

# Relative to a scale: its root lies so near; a row stops within 1e-3 or in a bracket around a jump of the sums.
ENTQUANT_RESIDUAL = 5e-3

# Relative: the objective along one row's scale has waves of its own, 20,000 weights (measured 0.0011).
ENTQUANT_OBJECTIVE = 3e-3

# Relative: the kernel's sums are float32 parts, torch's float64; both stop within 1e-3 of the same root.
ENTQUANT_STEP = 5e-3

# Bits: a wanted entropy is met within 0.005; scales are rounded to bf16.
ENTQUANT_RATE = 0.02

# Bits per weight: the recipe's wanted rate against what the model costs in a container; the project's own bar.
ENTQUANT_CODED_RATE = 0.02

# The best step found by trying against the formula's, octaves: the formula is for high rate, and the sum is flat.
STEP_OPTIMUM = 0.25

# Coded bits per weight against those asked for: the last block is rounded again until it is within 0.001; tuning and
# the exact slope leave a little more.
TARGET_BITS = 0.002

# The same of one block: the survey's error there is made up for by the next blocks only.
BLOCK_BITS = 0.05

# Bits per weight between a layer and its block where layers are even: what the recipe stops at, doubled because a
# block's own rate moves while the blocks before it are made up for.
EVEN_BITS = 0.1

# What a trellis gains over one grid at the same bits (1.12 dB at 3 bits and 0.93 at 2 measured; 1.53 is the limit).
TRELLIS_DECIBELS = 0.85

# Relative: float64 sums of a few hundred costs in different orders.
FLOAT64_SUM = 1e-9

# Relative to an entropy: float64 sums over a few hundred weights, or as many pieces (spacing 2e-16 each).
EWQ_ENTROPY = 1e-13

# Relative to how far an entropy falls: the closed form leaves out third and higher moments of weights with standard
# deviations up to 0.2, and takes exp(v) from one sample of 300,000 (measured below 0.004).
EWQ_CLOSED_FORM = 0.02

# Bytes by which resident memory may grow over a third of a soak: pages that the heap of a process of 80 MB breaks up,
# in steps (measured below 0.2 MB over 3,333 generations, 1.3 MB over 333 sessions, nearly all of it one step). One
# cache per generation that stayed would be above 50 MB of them, a session that stayed above 100 kB each time.
SOAK_GROWTH = {"generations": 1 << 20, "sessions": 3 << 20}

# Relative: residuals are float32 differences (of weights about 10 residuals large), their squares summed in float64.
FLOAT32_ERRORS = 1e-5

# Relative to an entropy: one value in a thousand may fall into the next bin where its edge is computed in float32.
FLOAT32_HISTOGRAM = 2e-3
