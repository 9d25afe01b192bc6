"""The Tidegate runtime: it knows time, disk and uplink, and names no protocol."""
