"""The services of Smartpipe: engine (pure), runtime (machinery), ingest, policy, rating, and the command line."""
