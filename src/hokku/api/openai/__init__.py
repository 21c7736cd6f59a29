"""The OpenAI wire as the vendor's compatibility layer defines it: chats, and texts for editors (wire.md section 15)."""
