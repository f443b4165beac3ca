"""The version, in a file that every floor may read: `pyproject.toml` takes it from here."""

__version__ = "0.1.0"
