"""Everything that knows eHive."""
