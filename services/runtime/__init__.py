"""Machinery: settings, telemetry, and the two logs (Kafka and embedded)."""
