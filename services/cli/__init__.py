"""One command, `smartpipe`, that wires everything."""
