"""Sinks: where authentic values go besides the archive, each with its own durable mark in it."""
