"""What a model is: packages as their owners ship them, read, described, encrypted, exported."""
