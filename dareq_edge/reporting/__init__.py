"""The report: one self-contained HTML page that somebody signs off on. Records in, text out; see docs/report.md."""
