"""Imported tags: made valid for a device, merged with those of its table, and written."""
