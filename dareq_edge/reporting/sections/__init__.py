"""Sections of the page, one file each; see ``dareq_edge.reporting.section``."""
