"""SQLite whose writers stand in line; see `base`."""
