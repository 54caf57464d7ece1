"""The recovery handler: carries out what two approvers have signed, with the availability key (law 16)."""
