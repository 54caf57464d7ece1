"""The DEP assigner: makes policies, puts mailboxes under them, and brings them onto rolled keys."""
