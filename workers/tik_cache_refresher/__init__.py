"""The TIK cache refresher: runs the custodian, holds the policy keys, probes the root keys and answers the fleet."""
