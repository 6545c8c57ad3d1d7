"""Reading the events of the ensembl_metadata database."""
