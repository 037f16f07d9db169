"""What demo, tests and benchmarks run on: a private Asterisk, PostgreSQL and telephones."""
