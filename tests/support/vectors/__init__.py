"""Test vectors of the record format: records and chains, good and bad, with the verdicts that the format gives them.

`python -m tests.support.vectors` writes docs/reference/vectors/vectors.json; the page beside it says how to use it.
Nothing here uses the code that it tests, and every verdict is written by hand.
"""
