"""How fast is it: the public API beside what people do today, as a ratio to the ideal.

One module a bench (`ingest`, `questions` with `parts`, `users`, `outage`, `limiter`). All run
against the simulated provider, which is reset before every run.
"""
