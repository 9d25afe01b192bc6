"""A simulated plant, broker, gateway and relay on one machine, with the mishaps of a plant."""
