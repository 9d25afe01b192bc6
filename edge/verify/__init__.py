"""Verification of stored records. Pure and offline; start reading at the head of `verifier`."""

from edge.verify.coverage import Coverage
from edge.verify.report import EpochReport, Report
from edge.verify.trust import Trust
from edge.verify.verdicts import Absence, Judgement, RangeVerdict, Verdict
from edge.verify.verifier import Verifier

__all__ = ["Absence", "Coverage", "EpochReport", "Judgement", "RangeVerdict", "Report", "Trust", "Verdict", "Verifier"]
