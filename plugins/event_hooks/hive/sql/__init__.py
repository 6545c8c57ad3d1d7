"""SQL statements for the tables of an eHive database."""
