"""Conversation ⇄ tokens, both directions, stops included. It knows no engine and opens no file."""
