"""After a restore: bring back from an exported audit log what the database has forgotten."""
