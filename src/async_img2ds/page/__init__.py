"""What a dataset is, as one HTML page that needs nothing but itself: counts, charts, samples of its rows and images."""
