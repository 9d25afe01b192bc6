"""Small working stand-ins for what a test cannot have: a clock to hold still, a disk that tears, a device in memory."""
