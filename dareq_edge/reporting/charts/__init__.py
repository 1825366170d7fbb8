"""Charts as inline SVG, drawn by pure functions. All are ``WIDTH`` units wide, so that text is legible on a phone."""
