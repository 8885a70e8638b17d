"""SQL of the rating service: functions over a connection, which their caller opened with `writing` or `reading`."""
