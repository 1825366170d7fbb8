"""Where calibration tokens come from when the user gives none: the model writes them itself."""
