"""A simulated plant, broker, gateway and relay on one machine, with the disturbances of a plant."""
