"""What we have promised: events received, the job and outcome of each (process, event), reports owed."""
