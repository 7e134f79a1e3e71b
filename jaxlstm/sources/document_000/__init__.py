"""Document 000: system, derivatives (1) to (25), arguments (26) to (33)."""
