"""The DAG `maintain_ledger`: resume unfinished work, prune old rows, and check consistency."""
