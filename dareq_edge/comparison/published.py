"""What has been published about OPT-125m and OPT-350m on WikiText-2, as it was printed; nothing here is ours.

Paper: Sakovich, Aksenov, Pleshakova, Gataullin, "AI Model Compression Methods: A Distribution-Aware Residual Entropy
Quantization", Computers, Materials & Continua 2026, doi 10.32604/cmc.2026.079522. It says that its GPTQ and AWQ rows
come from the original publications; GPTQ (arXiv 2210.17323) prints 31.12 for OPT-125M, so they do not.

Literature: perplexities under GPTQ's protocol (rows joined by blank lines, windows of 2,048, decoder linears only).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PaperRow:
    """One line of the paper's tables.

    Attributes:
        method: As printed.
        bits: As printed.
        ppl: Perplexity as printed, by table.
        size_mb: Size in MB of 1,000,000 bytes as printed, by table; "≈" where it is printed.
    """

    method: str
    bits: int
    ppl: tuple[str, str]
    size_mb: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Printed:
    """A perplexity in the literature.

    Attributes:
        what: Method and form.
        ppl: As printed, by table; ``None`` where there is none.
        source: Who printed it.
    """

    what: str
    ppl: tuple[str | None, str | None]
    source: str


MODELS = ("facebook/opt-125m", "facebook/opt-350m")
"""Table 1 here is the paper's figures for the first, table 2 those for the second."""

PAPER = {
    "fp32": PaperRow("FP32", 32, ("77.29", "61.94"), ("500.96", "1324.79")),
    "bnb8": PaperRow("BNB-8bit", 8, ("77.16", "62.31"), ("165.54", "359.35")),
    "bnb4": PaperRow("BNB-4bit", 4, ("81.85", "71.31"), ("123.08", "207.84")),
    "gptq": PaperRow("GPTQ-4bit", 4, ("84.5", "67.8"), ("≈125", "≈330")),
    "awq": PaperRow("AWQ-4bit", 4, ("82.1", "65.5"), ("≈125", "≈330")),
    "dareq": PaperRow("DARE-Q-4bit", 4, ("140.17", "94.15"), ("161.22", "112.63")),
}

_GPTQ = "GPTQ, arXiv 2210.17323, table 3"
_DERCEN = "Dercen/LLM-Precision"
LITERATURE = {
    "fp32": (
        Printed("FP16", ("27.65", "22.00"), _GPTQ),
        Printed("FP16, run again", ("27.6559", "22.0017"), "re-run"),
    ),
    "rtn": (
        Printed("RTN 4b per row, asymmetric", ("37.28", "25.94"), _GPTQ),
        Printed("RTN 4b g128, asymmetric", ("30.48", "24.51"), _DERCEN),
        Printed("uniform 4b", ("40.78", "30.10"), "COMP0252 student repository"),
    ),
    "gptq": (
        Printed("GPTQ 4b per row", ("31.12", "24.24"), _GPTQ),
        Printed("GPTQ 4b per row, three seeds", ("31.24-31.87", "24.39"), "re-run"),
        Printed("GPTQ 4b g128", ("29.45", "23.21"), _DERCEN),
    ),
    "awq": (
        Printed("AWQ-lite 4b g128", ("29.30", "23.60"), _DERCEN),
        Printed("AWQ uint4 groups", ("29.77", None), "AMD Quark documentation"),
    ),
    "hqq": (Printed("HQQ 4b g128, without data", ("30.54", "24.24"), _DERCEN),),
    "w8": (Printed("W8A8", ("30.18", None), "AMD Quark documentation"),),
}


@dataclass(frozen=True, slots=True)
class Counts:
    """Parameters of a model, as sizes are counted.

    Attributes:
        linears: In the decoder's linear layers.
        rest: Token table, positions, norms and biases.
    """

    linears: int
    rest: int

    @property
    def sizes(self) -> dict[str, float]:
        """Bytes by the paper's accounting, which reproduces every size of its tables that is not marked "≈".

        8 and 4 bits: linears in that many bits without scales, the rest in fp16. DARE-Q: the rest in fp32, and
        **nothing for the quantized weights**, which are buffers of the module and no parameters.
        """
        return {
            "fp32": 4.0 * (self.linears + self.rest),
            "bnb8": self.linears + 2.0 * self.rest,
            "bnb4": self.linears / 2 + 2.0 * self.rest,
            "dareq": 4.0 * self.rest,
        }


COUNTS = (
    Counts(84_934_656, 38_608_896 + 1_574_400 + 121_344),
    Counts(303_038_464, 25_739_264 + 2_099_200 + 319_488),
)
"""Of the two models: decoder linears (of 350m with both projections); token table, positions, norms and biases."""
