"""A node's side: one worker a task, status reports, the local task database."""
