"""Subcommands; each module imports its stage inside its function."""
