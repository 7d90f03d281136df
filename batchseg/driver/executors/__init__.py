"""Where tasks run: in this process, in a watched child, or on Ray. Only the `ray` modules import Ray."""
