"""The wire of Amazon Bedrock: its clients work unchanged (wire.md section 16)."""
