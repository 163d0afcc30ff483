"""Parts of the stability procedures: schedules, reads against a reference, stress by heat and light, analysis."""
