"""The IT side: receive, verify, archive, and show what was proven authentic."""
