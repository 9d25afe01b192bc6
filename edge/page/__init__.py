"""The page: what a gateway or relay is doing, for browsers, by a process that can only ask for its status.

`source` asks, `history` remembers, `overview` says it in words, `server` gives it to browsers, `static` draws it.
"""
