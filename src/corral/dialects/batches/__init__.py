"""OpenAI's batches: many requests in a file, answered when there is time."""
