"""The light half: accepts embeddings over HTTP and stores them in PostgreSQL."""
