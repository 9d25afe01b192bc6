"""The recorder: seals what is acquired into records, in order, and makes them durable."""

from edge.recorder.recorder import Recorder, RecorderSettings
from edge.recorder.resume import ResumeResult, resume_chain

__all__ = ["Recorder", "RecorderSettings", "ResumeResult", "resume_chain"]
