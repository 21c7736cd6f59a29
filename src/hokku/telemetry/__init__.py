"""What operators see of a running server: metrics, spans and logs, all made from the same record of an exchange."""
