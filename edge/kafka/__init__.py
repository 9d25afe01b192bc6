"""Topics of Kafka, as relays that share the load use them."""
