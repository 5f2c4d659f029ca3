"""Words of the bit ledger. Records are read without torch, which plans have their grids from."""

from typing import Final

ATTENTION: Final = "attention"
"""The `kind` of the bit ledger's rows that are about an attention and not about a layer."""

UNSEEN_ATTENTION: Final = "unseen attention"
"""The site of the bit ledger's rows about attentions that a model has and that no grid reaches."""
