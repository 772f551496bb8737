"""Public APIs: decode a request, encode events. Nothing is decided or computed here."""
