"""Measurements of the real system: real processes, real Redis, HTTP from end to end. The README says what each says."""
