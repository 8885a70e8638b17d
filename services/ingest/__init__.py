"""Adapters that turn the records of real exporters into FlowRecord."""
