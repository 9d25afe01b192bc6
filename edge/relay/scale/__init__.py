"""Relays that share the gateways of an enterprise: intakes fill a topic of Kafka, and workers take from it."""
