"""One run as one HTML file that opens from disk: what went in, what came out, whether to trust it."""
