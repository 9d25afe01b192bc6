"""Hardware in the loop: rigs, the scenarios that run on them, and reports of the results."""
