"""Benchmarks: each is one command and writes its rows into bench/RESULTS.md."""
