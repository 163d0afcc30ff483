"""Line detectors behind a spectrograph."""
