"""Evidence that an installed gateway does what its requirements say."""
