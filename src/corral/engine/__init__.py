"""The seam to what does the mathematics, and llama.cpp behind it: one process per loaded model."""
