"""Working fakes for tests: a manual clock, a disk that loses unsynced data, a device in memory, a recording proxy."""
