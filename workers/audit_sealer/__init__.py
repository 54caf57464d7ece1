"""The sealer of the audit log, the one worker that has nothing to do with anybody's keys."""
