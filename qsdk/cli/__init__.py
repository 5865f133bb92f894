"""The command line: one file per verb. Nothing here is imported before its verb runs."""
