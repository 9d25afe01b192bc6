"""Protocol drivers: each folder speaks one protocol and only reads."""
