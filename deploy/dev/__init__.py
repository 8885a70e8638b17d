"""What a developer starts locally: set-up scripts and servers for development and tests."""
