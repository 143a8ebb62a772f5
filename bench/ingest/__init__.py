"""What ``POST /embeddings`` stores, against the limits of what it is made of."""
