"""MQTT 5 as both of our clients need it: connecting, publishing, acknowledgements. Nothing here subscribes."""
