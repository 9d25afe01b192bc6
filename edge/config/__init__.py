"""YAML in; settings, or every problem with its line, out."""
