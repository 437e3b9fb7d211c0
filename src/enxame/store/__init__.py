"""The replicated object store: tables with indexes, transactions, versions, watches; backends behind it."""
