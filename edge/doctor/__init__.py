"""Looks at the machine of a gateway or relay, changes nothing, and says what to do; it asks no device."""
