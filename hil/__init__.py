"""Rigs (what is wired), scenarios (what is proven on them), and the report that says what was found."""
