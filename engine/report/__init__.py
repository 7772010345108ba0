"""Tables and reports of attacked networks, and the formats in which they are exported."""
