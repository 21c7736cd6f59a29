"""The wire of Google's Vertex AI: Messages below other paths, with Google's errors around them (wire.md section 17)."""
