"""What this is called, and which release of it this is; a test holds the release to pyproject.toml."""

NAME = "mlops"
VERSION = "0.1.0"
