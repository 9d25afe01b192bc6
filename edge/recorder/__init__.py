"""The ledger: what was acquired becomes sealed records, in order, and durable."""

from edge.recorder.recorder import Recorder, RecorderSettings
from edge.recorder.resume import ResumeResult, resume_chain

__all__ = ["Recorder", "RecorderSettings", "ResumeResult", "resume_chain"]
