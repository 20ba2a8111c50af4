"""Files that others have a say in: durable writes, files held open, planted links, JSON from anybody."""
