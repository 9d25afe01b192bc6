"""YAML in; settings, or every problem with its line, out.

`check` reads a configuration whole, `settings` holds what it may say, `apart` does it in a process of its own.
"""
