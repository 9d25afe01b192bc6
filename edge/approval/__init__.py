"""Signatures of persons: `ssh-keygen -Y sign` over a readable text, and a file of those whose signature counts."""
