"""The policy service: the stream shell around the engine."""
