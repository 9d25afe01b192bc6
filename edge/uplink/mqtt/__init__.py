"""A publish-only MQTT 5 client."""
