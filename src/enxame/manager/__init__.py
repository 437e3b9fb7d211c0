"""A manager's side: the use cases that the API calls, the leader's loop, the dispatcher."""
