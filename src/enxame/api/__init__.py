"""The Engine HTTP API: one module a resource, thin: parse, call, render."""
