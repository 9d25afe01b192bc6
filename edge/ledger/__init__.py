"""The ledger: what was acquired becomes sealed records, in order, and durable."""

from edge.ledger.ledger import Ledger, LedgerRules
from edge.ledger.opening import Opening, open_chain

__all__ = ["Ledger", "LedgerRules", "Opening", "open_chain"]
