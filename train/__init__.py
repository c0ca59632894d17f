"""Training on sharp photos: scripts, data, run state and tracking."""
