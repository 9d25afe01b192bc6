"""Configuration: YAML files become settings, or a list of problems, each with its line.

`check` validates a whole configuration, `settings` declares it, `check_process` validates it in a child process.
"""
