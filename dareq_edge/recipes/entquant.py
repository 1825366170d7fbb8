"""EntQuant over all matrices: 8-bit codes of low entropy, which a container holds in 2 to 4 bits.

See ``dareq_edge.quantizers.entquant`` for the method. One lambda serves all linears, as published. The token table,
the head and position tables, which the published code leaves alone, are float or 8 bits as the options say; in 8 bits
they go through the same quantizer with a lambda of their own. Not here: the published fallback to plain 8 bits for
layers with super weights, which needs activations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from dareq_edge.errors import SpecError
from dareq_edge.matrix import matrix_of
from dareq_edge.plan import QuantOptions, output_head
from dareq_edge.progress import Progress
from dareq_edge.quantizers.entquant import LAMBDA, Codes, EntQuant, Scale
from dareq_edge.recipes import Change, Source, _checks
from dareq_edge.recipes._coded_options import TABLE_LAMBDA, coded_options
from dareq_edge.recipes._coded_rate import find_lambda, fit_lambda
from dareq_edge.recipes._fit import other_bytes, table_bytes


@dataclass(frozen=True, slots=True)
class EntQuantRecipe:
    """See the module.

    Attributes:
        lam: lambda of the linears; ``None`` is 14.5 (about 3 bits), or what ``target_bits`` asks for.
        target_bits: Bits per weight of the linears in a container, scales included, all together.
        max_bytes: Instead: of the packed data file of the exported model.
        codes: "int8" or "float8".
        scale: "closed_form" or "lbfgs"; ``target_bits`` is met with the closed form's scales.
        table_lam: lambda of 8-bit tables.

    Raises:
        SpecError: A value cannot work.
    """

    lam: float | None = None
    target_bits: float | None = None
    max_bytes: int | None = None
    codes: Codes = "int8"
    scale: Scale = "closed_form"
    table_lam: float = TABLE_LAMBDA

    def __post_init__(self) -> None:
        _ = EntQuant(self.scale, self.codes, self.lam, self.target_bits), self._tables
        if self.max_bytes is not None:
            _checks.whole(self, "max_bytes", least=1)
            if self.lam is not None or self.target_bits is not None:
                raise SpecError("max_bytes is given beside lam or target_bits, which it decides; drop one")

    @property
    def label(self) -> str:
        """See ``Recipe``."""
        return "entquant"

    @property
    def _tables(self) -> EntQuant:
        return EntQuant(self.scale, self.codes, self.table_lam)

    def options(self, chosen: QuantOptions) -> QuantOptions:
        """See ``Recipe``."""
        return coded_options("entquant", chosen)

    def check(self, source: Source) -> None:
        """See ``Recipe``; the plan has been checked already."""

    def changes(self, source: Source, progress: Progress) -> Iterator[Change]:
        """See ``Recipe``."""
        head = output_head(source.model)
        owners = {name: source.model.get_submodule(name) for name in source.plan}
        linears = [n for n, owner in owners.items() if owner is not head and not isinstance(owner, nn.Embedding)]
        lam = self.lam or LAMBDA
        if self.target_bits is not None:
            lam = find_lambda(source, linears, EntQuant(codes=self.codes), self.target_bits, progress)
        elif self.max_bytes is not None:
            rest = other_bytes(source) + sum(table_bytes(source, n, self._tables) for n in owners if n not in linears)
            quantizer = EntQuant(self.scale, self.codes)
            lam = fit_lambda(source, linears, quantizer, self.max_bytes - rest, rest, progress)
        quantizers = dict.fromkeys(owners, self._tables) | dict.fromkeys(
            linears, EntQuant(self.scale, self.codes, lam)
        )
        for done, (module, spec) in enumerate(source.plan.items()):
            progress("quantizing", done, len(source.plan))
            target = f"{module}.weight"
            weight = matrix_of(owners[module], source.tensor(target))
            yield target, quantizers[module](weight, spec, name=module)
        progress("quantizing", len(source.plan), len(source.plan))


RECIPE = EntQuantRecipe
