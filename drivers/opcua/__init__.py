"""OPC UA, reading only: polled and subscribed, on secured sessions."""
