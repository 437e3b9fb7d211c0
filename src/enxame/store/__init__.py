"""The replicated object store: tables, transactions, versions, watches; behind it a backend."""
