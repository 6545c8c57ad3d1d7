"""Events, lookup files and the rules that select processes."""
