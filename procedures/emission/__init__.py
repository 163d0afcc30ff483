"""What all procedures share that take emission spectra: exposures, frames, light bounds, bands."""
