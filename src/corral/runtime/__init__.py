"""Models in use: what is loaded where, who may use it, and what a request turns into."""
