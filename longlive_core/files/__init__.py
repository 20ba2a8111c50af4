"""Safe files: durable writes, files in use by other programs, no following of links, checks of untrusted JSON."""
