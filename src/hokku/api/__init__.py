"""HTTP dialects: bytes to protocol values and back; no policy."""
