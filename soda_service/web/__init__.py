"""HTTP in, HTTP out: parameter names, status codes, media types and URLs live here alone."""
