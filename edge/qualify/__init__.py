"""Qualifies an installed machine: installation (IQ), operation (OQ) and performance (PQ), as a pack of evidence."""
