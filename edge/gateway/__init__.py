"""The daemon: where devices, buffer and uplink meet."""
