"""Names of CPUs and of the features their kernels are chosen by: data that travels in kit.json.

Linux on ARM tells numbers only: /proc/cpuinfo's "CPU implementer" and "CPU part", the fields of MIDR_EL1. Numbers as
in the kernel's arch/arm64/include/asm/cputype.h.
"""

from __future__ import annotations

CPUS: dict[str, dict[str, str]] = {
    "0x41": {
        "0x41": "ARM",
        "0xd03": "Cortex-A53",
        "0xd04": "Cortex-A35",
        "0xd05": "Cortex-A55",
        "0xd07": "Cortex-A57",
        "0xd08": "Cortex-A72",
        "0xd09": "Cortex-A73",
        "0xd0a": "Cortex-A75",
        "0xd0b": "Cortex-A76",
        "0xd0c": "Neoverse-N1",
        "0xd0d": "Cortex-A77",
        "0xd40": "Neoverse-V1",
        "0xd41": "Cortex-A78",
        "0xd44": "Cortex-X1",
        "0xd46": "Cortex-A510",
        "0xd47": "Cortex-A710",
        "0xd48": "Cortex-X2",
        "0xd49": "Neoverse-N2",
        "0xd4b": "Cortex-A78C",
        "0xd4c": "Cortex-X1C",
        "0xd4d": "Cortex-A715",
        "0xd4e": "Cortex-X3",
        "0xd4f": "Neoverse-V2",
        "0xd80": "Cortex-A520",
        "0xd81": "Cortex-A720",
        "0xd82": "Cortex-X4",
        "0xd84": "Neoverse-V3",
        "0xd85": "Cortex-X925",
        "0xd87": "Cortex-A725",
        "0xd8e": "Neoverse-N3",
    },
    "0x48": {"0x48": "HiSilicon", "0xd01": "TSV110"},
    "0x4e": {"0x4e": "NVIDIA", "0x004": "Carmel"},
    "0x51": {"0x51": "Qualcomm", "0x001": "Oryon", "0x802": "Kryo 385 Gold", "0x803": "Kryo 385 Silver"},
    "0x61": {"0x61": "Apple"},
    "0xc0": {"0xc0": "Ampere", "0xac3": "Ampere1"},
}
"""By implementer: its own name under its own number, and the names of its parts."""

FEATURES: tuple[str, ...] = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni"),
    *("avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "svei8mm", "svebf16", "sme", "sme2"),
    *("FEAT_FP16", "FEAT_DotProd", "FEAT_I8MM", "FEAT_BF16", "FEAT_SME", "FEAT_SME2"),
)
"""As Linux calls them, x86 first, then ARM; the last line is macOS's."""
