"""Images and sounds that clients send: what they are, and plain files of them that an engine may be given."""
