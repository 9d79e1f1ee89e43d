"""Looking for nudity in finished pictures with NudeNet, an optional package, and covering what is found."""
