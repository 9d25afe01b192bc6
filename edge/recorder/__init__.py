"""The ledger: what was acquired becomes sealed records, in order, and durable."""

from edge.recorder.recorder import Recorder, RecorderSettings
from edge.recorder.resume import ResumeResult, open_chain

__all__ = ["Recorder", "RecorderSettings", "ResumeResult", "open_chain"]
